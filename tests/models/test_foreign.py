"""Checkpoint files of other programs, whose architecture is told from the shapes."""

from __future__ import annotations

import argparse
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import transformers
from torch import nn

from vitlet.errors import InvalidValue, ModelNotFound, ModelUnreadable, VitletError
from vitlet.models.foreign import ForeignOptions, read_options
from vitlet.models.reference import load

TOLERANCE = 1e-4

#: Case -> (timm name, its options, the query that the shapes do not answer).
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "DeiT distilled": ("deit_tiny_distilled_patch16_224", {"depth": 2, "img_size": 64}, ""),
    "LayerScale, no class position": ("deit3_small_patch16_224", {"depth": 2, "img_size": 64}, ""),
    "registers, mean, norm after": ("vit_wee_patch16_reg1_gap_256", {"depth": 2, "img_size": 64}, ""),
    "mean, norm before": ("vit_so150m_patch16_reg4_gap_256", {"depth": 2, "img_size": 64}, ""),
    "MAE: mean beside a class token": ("vit_tiny_patch16_224", {"depth": 2, "img_size": 64, "global_pool": "avg"}, ""),
    "CLIP": ("vit_base_patch32_clip_quickgelu_224", {"depth": 1}, "?activation=quick_gelu&norm_eps=1e-5"),
    "no biases": ("vit_tiny_patch16_224", {"depth": 2, "img_size": 64, "qkv_bias": False, "proj_bias": False}, ""),
    "odd heads": ("vit_tiny_patch16_224", {"depth": 2, "img_size": 64, "embed_dim": 100, "num_heads": 5}, "?heads=5"),
    "no positions": ("vit_tiny_patch16_224", {"depth": 2, "img_size": 64, "pos_embed": "none"}, "?image_size=64"),
    "token after the norm": (
        "vit_tiny_patch16_224",
        {"depth": 2, "img_size": 64, "fc_norm": True},
        "?pool=token",
    ),
}


def _difference(theirs: nn.Module, ours: nn.Module, size: int) -> float:
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs(images)
        expected = expected if isinstance(expected, torch.Tensor) else expected.logits
        return float((expected - ours(images)).abs().max())


@pytest.fixture(scope="module")
def vit(lively: Callable[..., nn.Module]) -> nn.Module:
    return lively(timm.create_model("vit_tiny_patch16_224", depth=2, img_size=64, num_classes=7))


@pytest.mark.parametrize("case", CASES)
def test_the_architecture_is_told_from_the_shapes(case: str, lively: Callable[..., nn.Module], tmp_path: Path) -> None:
    name, options, query = CASES[case]
    model = lively(timm.create_model(name, **options))
    path = tmp_path / "vit.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    loaded = load(f"{path}{query}")
    assert _difference(model, loaded.module, loaded.image_spec.height) <= TOLERANCE
    assert loaded.library == "checkpoint"
    assert loaded.reference == f"{path}{query}"


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        ("ViTForImageClassification", "?heads=3"),
        ("DeiTForImageClassification", "?heads=3"),
        ("DeiTForImageClassificationWithTeacher", "?heads=3"),
        ("Dinov2ForImageClassification", "?heads=3"),
    ],
)
def test_hugging_face_files_too(kind: str, query: str, lively: Callable[..., nn.Module], tmp_path: Path) -> None:
    model_class = getattr(transformers, kind)
    common: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "num_labels": 5}
    model = lively(model_class(model_class.config_class(**common, image_size=64, patch_size=16)))
    model.save_pretrained(tmp_path)
    loaded = load(f"{tmp_path / 'model.safetensors'}{query}")
    assert _difference(model, loaded.module, 64) <= TOLERANCE


def test_the_pre_logits_of_the_original_vit(lively: Callable[..., nn.Module], vit: nn.Module, tmp_path: Path) -> None:
    """timm dropped this layer, so what it computes is written down here: tanh(W x + b) before the head."""
    head = lively(nn.ModuleDict({"fc": nn.Linear(192, 40), "head": nn.Linear(40, 7)}))
    state = {name: tensor for name, tensor in vit.state_dict().items() if not name.startswith("head.")}
    state |= {f"pre_logits.fc.{kind}": getattr(head["fc"], kind).detach() for kind in ("weight", "bias")}
    state |= {f"head.{kind}": getattr(head["head"], kind).detach() for kind in ("weight", "bias")}
    safetensors.torch.save_file(state, tmp_path / "vit.safetensors")
    loaded = load(str(tmp_path / "vit.safetensors"))
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = head["head"](torch.tanh(head["fc"](vit.forward_features(images)[:, 0])))
        assert (loaded.module(images) - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
@pytest.mark.parametrize(
    ("wrap", "tolerance"),
    [
        (lambda state: state, TOLERANCE),
        (lambda state: {"model": state, "args": argparse.Namespace(lr=0.1), "epoch": 3}, TOLERANCE),
        (lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, TOLERANCE),
        (lambda state: {"model": {"head.weight": torch.zeros(1)}, "model_ema": state}, TOLERANCE),
        (lambda state: {f"_orig_mod.{name}": tensor.half() for name, tensor in state.items()}, 0.02),
    ],
    ids=["plain", "DeiT's own", "distributed", "averaged", "compiled, half"],
)
def test_training_scripts_wrappers(
    vit: nn.Module, tmp_path: Path, wrap: Callable[[dict[str, torch.Tensor]], object], tolerance: float, suffix: str
) -> None:
    path = tmp_path / f"vit{suffix}"
    torch.save(wrap(vit.state_dict()), path)
    assert _difference(vit, load(str(path)).module, 64) <= tolerance


def test_the_entry_can_be_chosen(vit: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "vit.pth"
    torch.save({"model_ema": {"head.weight": torch.zeros(1)}, "student": vit.state_dict()}, path)
    assert _difference(vit, load(f"{path}?weights=student").module, 64) <= TOLERANCE
    with pytest.raises(ModelUnreadable, match="no weights under 'teacher'; its keys are model_ema, student"):
        load(f"{path}?weights=teacher")


def test_a_file_from_before_pytorch_1_6(vit: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "vit.pth"
    torch.save({"model": vit.state_dict()}, path, _use_new_zipfile_serialization=False)
    assert _difference(vit, load(str(path)).module, 64) <= TOLERANCE


def test_options_change_what_the_shapes_do_not_show(vit: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "vit.pth"
    torch.save(vit.state_dict(), path)
    query = "?heads=6&image_size=96&mean=0.5,0.4,0.3&std=0.2,0.2,0.2&resize=100&interpolation=bilinear"
    loaded = load(path.as_posix() + query)
    assert loaded.architecture.heads == 6
    spec = loaded.image_spec
    assert (spec.height, spec.resize, spec.mean, spec.interpolation) == (96, 100, (0.5, 0.4, 0.3), "bilinear")
    plain = load(str(path)).image_spec
    assert (plain.height, plain.resize, plain.mean) == (64, 73, (0.485, 0.456, 0.406))


def test_positions_are_interpolated_as_timm_does(vit: nn.Module, tmp_path: Path) -> None:
    for size in (96, 48):  # antialiasing shows where the grid shrinks
        path = tmp_path / "vit.pth"
        torch.save(vit.state_dict(), path)
        theirs = timm.create_model("vit_tiny_patch16_224", depth=2, img_size=64, num_classes=7).eval()
        theirs.load_state_dict(vit.state_dict())
        theirs.set_input_size((size, size))
        assert _difference(theirs, load(f"{path}?image_size={size}").module, size) <= TOLERANCE
        assert _difference(theirs, load(str(path), image_size=size).module, size) <= TOLERANCE


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?head=3", "no option 'head'; there are: heads, image_size"),
        ("?heads=many", "heads"),
        ("?heads=5", "5 heads cannot share"),
        ("?heads=0", "0 heads cannot share"),
        ("?mean=1,2", "mean"),
        ("?pool=max", "pool"),
        ("?activation=relu", "activation"),
        ("?image_size=8", "holds no patch"),
        ("?norm_eps=2", "norm_eps"),
        ("?std=0,1,1", "above 0"),
    ],
)
def test_options_that_are_wrong(vit: nn.Module, tmp_path: Path, query: str, message: str) -> None:
    path = tmp_path / "vit.pth"
    torch.save(vit.state_dict(), path)
    with pytest.raises(VitletError, match=message):
        load(f"{path}{query}")


def test_options_are_read() -> None:
    assert read_options({}) == ForeignOptions()
    assert read_options({"mean": "0.5,0.5,0.5", "heads": "3"}) == ForeignOptions(heads=3, mean=(0.5, 0.5, 0.5))


def test_what_cannot_be_told_is_asked_for(lively: Callable[..., nn.Module], tmp_path: Path) -> None:
    path = tmp_path / "vit.pth"
    for options, message in (
        ({"embed_dim": 100, "num_heads": 5}, r"add \?heads=N"),
        ({"pos_embed": "none"}, r"add \?image_size=N"),
    ):
        torch.save(timm.create_model("vit_tiny_patch16_224", depth=1, img_size=64, **options).state_dict(), path)
        with pytest.raises(InvalidValue, match=message):
            load(str(path))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("regnety_002", {}, "is no ViT in timm's, DeiT's or Hugging Face's layout"),
        ("vit_tiny_patch16_224", {"num_classes": 0}, "has no classifier head"),
        ("vit_tiny_patch16_224", {"qk_norm": True}, r"attn\.q_norm\.weight belongs to no ViT"),
        ("vit_tiny_patch16_224", {"in_chans": 1}, "1 channels"),
        ("vit_tiny_patch16_224", {"patch_size": (16, 8)}, "16 x 8"),
        ("vit_tiny_patch16_224", {"img_size": (64, 80)}, "fit no square grid"),
        ("beit_base_patch16_224", {"depth": 1}, "belongs to no ViT"),
    ],
)
def test_other_models_are_refused(name: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    small = {} if name == "regnety_002" else {"depth": 1, "img_size": 64}
    model = timm.create_model(name, **{**small, **options})
    torch.save(model.state_dict(), tmp_path / "model.pth")
    with pytest.raises(ModelUnreadable, match=message):
        load(str(tmp_path / "model.pth"))


def test_weights_that_are_missing_too_many_or_odd(vit: nn.Module, tmp_path: Path) -> None:
    state = vit.state_dict()
    wrong: list[tuple[dict[str, torch.Tensor], str]] = [
        ({name: t for name, t in state.items() if name != "blocks.1.mlp.fc2.bias"}, r"lacks tensor blocks\.1\.mlp"),
        ({name: t for name, t in state.items() if not name.startswith("blocks")}, "no transformer blocks"),
        ({name: t for name, t in state.items() if name != "head.bias"}, r"lacks tensor head\.bias"),
        (state | {"cls_token": torch.zeros(1, 1, 7)}, "is not 1 x tokens x 192"),
        (state | {"cls_token": torch.zeros(5)}, "has 1 dimensions, not 3"),
        (state | {"head.weight": torch.zeros(7)}, "has 1 dimensions, not 2"),
        (state | {"head.weight": torch.zeros(7, 99)}, "7x99, but its architecture needs 7x192"),
        (state | {"head.bias": torch.full((7,), float("nan"))}, "not finite"),
        (state | {"pos_embed": torch.zeros(1, 24, 192)}, "fit no square grid"),
        (state | {"optimizer": torch.zeros(1)}, "tensor optimizer belongs to no ViT"),
    ]
    for tensors, message in wrong:
        torch.save(tensors, tmp_path / "vit.pth")
        with pytest.raises(ModelUnreadable, match=message):
            load(str(tmp_path / "vit.pth"))


class _Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def test_code_in_a_file_is_refused_in_one_sentence_and_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "was-here"
    for number, content in enumerate((nn.Linear(2, 2), {"model": {}, "hook": _Touch(marker)}, _Touch(marker))):
        path = tmp_path / f"{number}.pth"
        torch.save(content, path)
        with pytest.raises(ModelUnreadable, match="runs no code from a model file") as refused:
            load(str(path))
        assert "\n" not in str(refused.value)
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_files_that_are_none(vit: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.jit.script(nn.Linear(2, 2)).save(str(path))
    with pytest.raises(ModelUnreadable, match="is a TorchScript program"):
        load(str(path))
    torch.save([1, 2], path)
    with pytest.raises(ModelUnreadable, match="holds a list, not a state dict"):
        load(str(path))
    torch.save({"epoch": 3}, path)
    with pytest.raises(ModelUnreadable, match="holds no weights; its keys are epoch"):
        load(str(path))
    path.write_text("<html>not found</html>")
    with pytest.raises(ModelUnreadable, match="no whole PyTorch file"):
        load(str(path))
    path.write_bytes(b"")
    with pytest.raises(ModelUnreadable, match="no whole PyTorch file"):
        load(str(path))
    with pytest.raises(ModelNotFound, match="there is no file"):
        load(str(tmp_path / "gone.pth"))


@pytest.mark.parametrize("modern", [True, False])
def test_every_shorter_file_is_refused(vit: nn.Module, tmp_path: Path, modern: bool) -> None:
    path = tmp_path / "vit.pth"
    torch.save({"model": vit.state_dict()}, path, _use_new_zipfile_serialization=modern)
    whole = path.read_bytes()
    for keep in range(0, len(whole), len(whole) // 12):
        path.write_bytes(whole[:keep])
        with pytest.raises(ModelUnreadable):
            load(str(path))


def test_a_tensor_larger_than_its_file_takes_no_memory(vit: nn.Module, tmp_path: Path) -> None:
    """Strides of zero make 64 GiB of classes out of a few numbers."""
    huge = torch.zeros(1, 1).expand(1 << 24, 1 << 10)
    torch.save(vit.state_dict() | {"head.weight": huge}, tmp_path / "vit.pth")
    with pytest.raises(ModelUnreadable, match="bytes of weights but is smaller"):
        load(str(tmp_path / "vit.pth"))


def test_a_compressed_archive_is_refused(vit: nn.Module, tmp_path: Path) -> None:
    torch.save({"head.bias": torch.zeros(10_000_000)}, tmp_path / "vit.pth")
    with (
        zipfile.ZipFile(tmp_path / "vit.pth") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in plain.infolist():
            bomb.writestr(entry.filename, plain.read(entry))
    with pytest.raises(ModelUnreadable, match="is compressed"):
        load(str(tmp_path / "bomb.pth"))


def test_a_pickle_that_is_no_pytorch_file(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(pickle.dumps({"model": 1}))
    with pytest.raises(ModelUnreadable):
        load(str(tmp_path / "model.bin"))
