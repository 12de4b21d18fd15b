"""Hugging Face classifiers from a folder, held to transformers' own logits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from torch import nn

from vitlet.errors import InvalidValue, ModelNotFound, ModelUnreadable, Unsupported
from vitlet.models.hf import load_hf
from vitlet.models.hf_config import SUPPORTED
from vitlet.records import ImageSpec

TOLERANCE = 1e-4
COMMON: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 80,
    "image_size": 64,
    "patch_size": 16,
    "num_labels": 5,
}
DINO: dict[str, Any] = {**{key: COMMON[key] for key in COMMON if key != "intermediate_size"}, "patch_size": 8}

#: Case -> (class, configuration, its own, further switches).
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("ViTForImageClassification", COMMON),
    "ViT, no qkv bias": ("ViTForImageClassification", {**COMMON, "qkv_bias": False}),
    "ViT, GELU by tanh": ("ViTForImageClassification", {**COMMON, "hidden_act": "gelu_new"}),
    "ViT, quick GELU, large eps": (
        "ViTForImageClassification",
        {**COMMON, "hidden_act": "quick_gelu", "layer_norm_eps": 0.1},
    ),
    "DeiT without teacher": ("DeiTForImageClassification", COMMON),
    "DeiT with teacher": ("DeiTForImageClassificationWithTeacher", COMMON),
    "DINOv2": ("Dinov2ForImageClassification", DINO),
    "DINOv2 with registers": ("Dinov2WithRegistersForImageClassification", {**DINO, "num_register_tokens": 3}),
}


def _make(kind: str, settings: dict[str, Any], lively: Callable[..., nn.Module]) -> Any:
    model_class = getattr(transformers, kind)
    return lively(model_class(model_class.config_class(**settings)))


def _processor(folder: Path, **size: Any) -> None:
    settings = {"image_processor_type": "ViTImageProcessor", "image_mean": [0.4] * 3, "image_std": [0.3] * 3, **size}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def _difference(theirs: Any, ours: nn.Module, size: int, **options: Any) -> float:
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return float((theirs(images, **options).logits - ours(images)).abs().max())


@pytest.fixture
def vit(tmp_path: Path, lively: Callable[..., nn.Module]) -> tuple[Any, Path]:
    """A small ViT and the folder it was saved to."""
    model = _make("ViTForImageClassification", COMMON, lively)
    model.save_pretrained(tmp_path)
    return model, tmp_path


def _edit(path: Path, **changes: Any) -> None:
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.mark.parametrize("case", CASES)
def test_logits_are_transformers(case: str, lively: Callable[..., nn.Module], tmp_path: Path) -> None:
    kind, settings = CASES[case]
    model = _make(kind, settings, lively)
    model.save_pretrained(tmp_path)
    _processor(tmp_path, size={"height": 64, "width": 64})
    loaded = load_hf(str(tmp_path))
    assert _difference(model, loaded.module, 64) <= TOLERANCE
    assert (loaded.library, loaded.architecture.classes, len(loaded.labels)) == ("hf", 5, 5)


@pytest.mark.parametrize(
    ("case", "size"),
    [("ViT", 96), ("ViT", 48), ("DeiT with teacher", 96), ("DINOv2", 40), ("DINOv2 with registers", 40)],
)
def test_positions_are_interpolated_as_transformers_does(
    case: str, size: int, lively: Callable[..., nn.Module], tmp_path: Path
) -> None:
    kind, settings = CASES[case]
    model = _make(kind, settings, lively)
    model.save_pretrained(tmp_path)
    _processor(tmp_path, size={"height": 64, "width": 64})
    loaded = load_hf(str(tmp_path), image_size=size)
    options = {} if kind.startswith("Dino") else {"interpolate_pos_encoding": True}
    assert _difference(model, loaded.module, size, **options) <= TOLERANCE
    assert (loaded.image_spec.height, loaded.image_spec.resize) == (size, (size, size))


def test_a_dinov2_is_built_for_the_size_that_its_processor_makes(
    lively: Callable[..., nn.Module], tmp_path: Path
) -> None:
    model = _make("Dinov2ForImageClassification", DINO, lively)
    model.save_pretrained(tmp_path)
    crop = {"size": {"shortest_edge": 48}, "crop_size": {"height": 40, "width": 40}}
    _processor(tmp_path, image_processor_type="BitImageProcessor", **crop)
    loaded = load_hf(str(tmp_path))
    assert (loaded.image_spec.resize, loaded.image_spec.height, loaded.architecture.image_height) == (48, 40, 40)
    assert _difference(model, loaded.module, 40) <= TOLERANCE


def test_sharded_and_pickled_weights_are_read(vit: tuple[Any, Path], tmp_path: Path) -> None:
    model, folder = vit
    sharded, pickled = tmp_path / "sharded", tmp_path / "pickled"
    model.save_pretrained(sharded, max_shard_size="50KB")
    assert (sharded / "model.safetensors.index.json").is_file()
    assert not (sharded / "model.safetensors").exists()
    pickled.mkdir()
    (pickled / "config.json").write_bytes((folder / "config.json").read_bytes())
    torch.save(safetensors.torch.load_file(folder / "model.safetensors"), pickled / "pytorch_model.bin")
    for place in (sharded, pickled):
        assert _difference(model, load_hf(str(place)).module, 64) <= TOLERANCE


def test_the_module_names_of_transformers_5_are_read(vit: tuple[Any, Path]) -> None:
    model, folder = vit
    safetensors.torch.save_file(model.state_dict(), folder / "model.safetensors")
    assert _difference(model, load_hf(str(folder)).module, 64) <= TOLERANCE


def test_labels_come_from_the_config(vit: tuple[Any, Path]) -> None:
    _, folder = vit
    assert load_hf(str(folder)).labels == tuple(f"class {index}" for index in range(5))
    _edit(folder / "config.json", id2label={str(index): f"animal {index}" for index in range(5)})
    assert load_hf(str(folder)).labels[3] == "animal 3"


def test_preprocessing_is_the_processors_and_vits_own_without_one(vit: tuple[Any, Path]) -> None:
    _, folder = vit
    assert load_hf(str(folder)).image_spec == ImageSpec(
        64, 64, (64, 64), "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), crop_rounding="down"
    )
    _processor(folder, size={"height": 64, "width": 64}, resample=3)
    spec = load_hf(str(folder)).image_spec
    assert (spec.mean, spec.interpolation) == ((0.4, 0.4, 0.4), "bicubic")


def test_a_processor_of_another_size_follows_the_model(vit: tuple[Any, Path]) -> None:
    _, folder = vit
    _processor(folder, size={"height": 224, "width": 224})
    assert load_hf(str(folder)).image_spec.resize == (64, 64)


def test_random_weights_need_the_config_only_and_depend_on_the_seed(vit: tuple[Any, Path]) -> None:
    _, folder = vit
    (folder / "model.safetensors").unlink()
    images = torch.randn(1, 3, 64, 64)
    one, same, other = (load_hf(str(folder), random_weights=True, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.module(images), same.module(images))
    assert not torch.equal(one.module(images), other.module(images))
    assert one.random_weights


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"architectures": ["SwinForImageClassification"]}, Unsupported, "vitlet reads " + ", ".join(SUPPORTED)),
        ({"architectures": ["ViTModel"]}, Unsupported, "is ViTModel"),
        ({"architectures": None, "model_type": "clip"}, Unsupported, "a model of type 'clip'"),
        ({"architectures": None, "architecture": "resnet18"}, Unsupported, "is a timm model; write timm:hf-hub:"),
        ({"hidden_act": "silu"}, Unsupported, "MLP with silu"),
        ({"use_swiglu_ffn": True}, Unsupported, "MLP with SwiGLU"),
        ({"num_channels": 1}, Unsupported, "1 channels"),
        ({"patch_size": [16, 8]}, Unsupported, "16 x 8"),
        ({"hidden_size": "wide"}, ModelUnreadable, "hidden_size is 'wide'"),
        ({"hidden_size": 50}, ModelUnreadable, "no multiple of heads"),
        ({"num_hidden_layers": 100000}, ModelUnreadable, "depth is 100000"),
        ({"layer_norm_eps": "small"}, ModelUnreadable, "makes no ViT"),
        ({"image_size": 0}, ModelUnreadable, "image_size is 0"),
        ({"num_hidden_layers": 3}, ModelUnreadable, "lacks"),
        ({"num_hidden_layers": 1}, ModelUnreadable, "does not have"),
        ({"intermediate_size": 81}, ModelUnreadable, "80x48, but its architecture needs 81x48"),
    ],
)
def test_a_config_that_does_not_go_says_why(
    vit: tuple[Any, Path], changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    _, folder = vit
    _edit(folder / "config.json", **changes)
    with pytest.raises(error, match=message):
        load_hf(str(folder))


def test_files_that_are_missing_or_damaged_say_so(vit: tuple[Any, Path]) -> None:
    _, folder = vit
    (folder / "preprocessor_config.json").write_text("{")
    with pytest.raises(ModelUnreadable, match="no readable JSON"):
        load_hf(str(folder))
    (folder / "preprocessor_config.json").write_text('{"size": "big"}')
    with pytest.raises(ModelUnreadable, match="image processor"):
        load_hf(str(folder))
    (folder / "preprocessor_config.json").unlink()
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelUnreadable, match="no whole safetensors file"):
        load_hf(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="holds no weights"):
        load_hf(str(folder))
    (folder / "config.json").write_text("[]")
    with pytest.raises(ModelUnreadable, match="no JSON object"):
        load_hf(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(ModelNotFound, match=r"no config\.json"):
        load_hf(str(folder))
    with pytest.raises(ModelNotFound, match="no folder"):
        load_hf(str(folder / "nothing"))


def test_an_index_cannot_point_outside_the_folder(vit: tuple[Any, Path]) -> None:
    _, folder = vit
    (folder / "model.safetensors").rename(folder.parent / "secret.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"vit.embeddings.cls_token": "../secret.safetensors"}}))
    with pytest.raises(ModelUnreadable, match="points outside"):
        load_hf(str(folder))
    index.write_text(json.dumps({"weight_map": {"vit.embeddings.cls_token": "gone.safetensors"}}))
    with pytest.raises(ModelNotFound, match=r"lacks gone\.safetensors"):
        load_hf(str(folder))
    index.write_text(json.dumps({"weight_map": 3}))
    with pytest.raises(ModelUnreadable, match="names no files"):
        load_hf(str(folder))


def test_an_image_size_without_a_patch_is_refused(vit: tuple[Any, Path]) -> None:
    with pytest.raises(InvalidValue, match="holds no patch of 16"):
        load_hf(str(vit[1]), image_size=8)
