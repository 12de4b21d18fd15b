"""Loading through the real clients of timm and Hugging Face, from a hub on loopback."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import timm.models
import torch
import transformers
from huggingface_hub import constants
from torch import nn

from vitlet.errors import (
    HubUnreachable,
    InvalidValue,
    ModelError,
    ModelNotFound,
    ModelUnreadable,
    NotWritable,
    Unsupported,
)
from vitlet.models.reference import load
from vitlet.records import Progress, TimmArchitecture, VitArchitecture

TOLERANCE = 1e-4
#: An offline user has the answer within this time; the clients alone take half a minute and more.
SOON_S = 20.0
VIT = "hf:someone/vit"


def _logits(module: nn.Module, size: int) -> torch.Tensor:
    with torch.inference_mode():
        found = module(torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1)))
    return found if isinstance(found, torch.Tensor) else found.logits


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, lively: Callable[..., nn.Module]) -> dict[str, tuple[Any, Path]]:
    """Models as their own libraries save them, with the folder they were saved to."""
    made: dict[str, tuple[Any, Path]] = {}
    common: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "num_labels": 5}
    common |= {"intermediate_size": 80, "image_size": 64, "patch_size": 16}
    for name, kind in (
        ("vit", "ViTForImageClassification"),
        ("deit", "DeiTForImageClassificationWithTeacher"),
        ("dinov2", "Dinov2ForImageClassification"),
    ):
        model_class = getattr(transformers, kind)
        model = lively(model_class(model_class.config_class(**common)))
        made[name] = (model, tmp_path_factory.mktemp(name))
        model.save_pretrained(made[name][1])
        processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 64, "width": 64}}
        (made[name][1] / "preprocessor_config.json").write_text(json.dumps(processor))
    for name, architecture, options, safe in (
        ("timm-vit", "vit_tiny_patch16_224", {"depth": 2, "img_size": 64, "num_classes": 3}, True),
        ("timm-opaque", "test_vit", {"num_classes": 3}, False),
    ):
        model = lively(timm.create_model(architecture, **options))
        made[name] = (model, tmp_path_factory.mktemp(name))
        names = {"cat": "a cat", "dog": "a dog", "owl": "?"}
        described = {"label_names": list(names), "label_descriptions": names}
        saved = {"model_config": described, "model_args": options, "safe_serialization": safe}
        timm.models.save_for_hf(model, made[name][1], **saved)
    return made


@pytest.fixture
def full_hub(hub_client: Any, folders: dict[str, tuple[Any, Path]]) -> Any:
    """The hub with these models, as someone/NAME."""
    for name, (_, folder) in folders.items():
        hub_client.add_folder(f"someone/{name}", folder)
    return hub_client


@pytest.mark.parametrize("name", ["vit", "deit", "dinov2"])
def test_hugging_face_models_load(full_hub: Any, folders: dict[str, tuple[Any, Path]], name: str) -> None:
    seen: list[Progress] = []
    loaded = load(f"hf:someone/{name}", progress=seen.append)
    assert (_logits(loaded.module, 64) - _logits(folders[name][0], 64)).abs().max() <= TOLERANCE
    downloads = [step for step in seen if step.detail.endswith("model.safetensors")]
    assert downloads
    assert downloads[-1].done == downloads[-1].total == (folders[name][1] / "model.safetensors").stat().st_size


def test_a_revision_is_asked_for(full_hub: Any) -> None:
    assert load(f"{VIT}@v1").reference == f"{VIT}@v1"
    assert any("/resolve/v1/config.json" in request for request in full_hub.requests)
    with pytest.raises(ModelNotFound, match="no such revision"):
        load(f"{VIT}@v2")


def test_a_timm_repository_loads(full_hub: Any, folders: dict[str, tuple[Any, Path]]) -> None:
    loaded = load("timm:hf-hub:someone/timm-vit")
    assert isinstance(loaded.architecture, VitArchitecture)
    assert (loaded.labels, loaded.image_spec.height) == (("a cat", "a dog", "?"), 64)
    assert (_logits(loaded.module, 64) - _logits(folders["timm-vit"][0], 64)).abs().max() <= TOLERANCE


def test_a_timm_repository_that_is_no_vit_stays_timms_and_can_be_rebuilt(
    full_hub: Any, folders: dict[str, tuple[Any, Path]], tmp_path: Path
) -> None:
    from vitlet.models.checkpoint import load_checkpoint, save_checkpoint

    loaded = load("timm:hf-hub:someone/timm-opaque")
    assert isinstance(loaded.architecture, TimmArchitecture)
    assert "images of any size" in loaded.note
    again = load_checkpoint(save_checkpoint(loaded, tmp_path / "opaque.safetensors"))
    size = loaded.image_spec.height
    assert torch.equal(_logits(again.module, size), _logits(folders["timm-opaque"][0], size))


def test_a_timm_name_is_found_on_the_hub(hub_client: Any, lively: Callable[..., nn.Module]) -> None:
    theirs = lively(timm.create_model("deit_tiny_patch16_224"))
    weights = safetensors.torch.save(theirs.state_dict())
    hub_client.files["timm/deit_tiny_patch16_224.fb_in1k"] = {"model.safetensors": weights}
    loaded = load("deit_tiny_patch16_224")
    assert (_logits(loaded.module, 224) - _logits(theirs, 224)).abs().max() <= TOLERANCE
    assert (loaded.labels[0], loaded.image_spec.resize) == ("tench, Tinca tinca", 248)


def test_a_timm_model_whose_weights_lie_outside_the_hub(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lively: Callable[..., nn.Module]
) -> None:
    theirs = lively(timm.create_model("test_convnext"))
    stream = io.BytesIO()
    torch.save(theirs.state_dict(), stream)
    filename = f"convnext-{hashlib.sha256(stream.getvalue()).hexdigest()[:8]}.pth"
    hub.files["plain"] = {filename: stream.getvalue()}
    registered = timm.models._registry._model_pretrained_cfgs["test_convnext.r160_in1k"]
    monkeypatch.setattr(registered, "hf_hub_id", None)
    monkeypatch.setattr(registered, "url", f"{hub.url}/plain/{filename}")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    loaded = load("test_convnext.r160_in1k")
    assert torch.equal(_logits(loaded.module, 160), _logits(theirs, 160))
    assert len(hub.requests) == 1
    (tmp_path / "checkpoints" / filename).unlink()
    hub.down = True
    with pytest.raises(HubUnreachable, match="answers with error 503"):
        load("test_convnext.r160_in1k")


def test_the_hub_may_go_down_once_the_files_are_in_the_cache(full_hub: Any) -> None:
    load(VIT)
    full_hub.down = True
    start = time.monotonic()
    load(VIT)
    assert time.monotonic() - start < SOON_S


def test_what_a_repository_has_not_is_known_while_the_hub_is_down(full_hub: Any) -> None:
    """A repository without a processor file, and with pickled weights, where a safetensors file is looked for first."""
    files = full_hub.files["someone/vit"]
    stream = io.BytesIO()
    torch.save(safetensors.torch.load(files.pop("model.safetensors")), stream)
    files["pytorch_model.bin"] = stream.getvalue()
    del files["preprocessor_config.json"]
    load(VIT)
    full_hub.down = True
    start = time.monotonic()
    load(VIT)
    assert time.monotonic() - start < SOON_S


def test_a_hub_that_overstates_a_file(full_hub: Any, tmp_path: Path) -> None:
    full_hub.longer = 10
    with pytest.raises(HubUnreachable, match=r"cannot be downloaded from http.*should be of size"):
        load(VIT)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_cache_that_cannot_be_written(full_hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file"))
    for reference in (VIT, "timm:hf-hub:someone/timm-vit"):
        with pytest.raises(NotWritable, match="file cannot be written"):
            load(reference)


@pytest.mark.parametrize("reference", [VIT, "timm:hf-hub:someone/timm-vit", "deit_tiny_patch16_224"])
@pytest.mark.parametrize("how", ["refused", "503"])
def test_a_hub_that_is_down_is_one_clear_error_soon(
    full_hub: Any, monkeypatch: pytest.MonkeyPatch, reference: str, how: str
) -> None:
    full_hub.down = True
    if how == "refused":
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(full_hub.url, "http://127.0.0.1:1")
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    start = time.monotonic()
    with pytest.raises(HubUnreachable, match=r"cannot be reached|answers with error 503"):
        load(reference)
    assert time.monotonic() - start < SOON_S


def test_random_weights_without_a_hub_say_that_the_config_is_needed(full_hub: Any) -> None:
    full_hub.down = True
    with pytest.raises(HubUnreachable, match=r"still need its config\.json"):
        load(VIT, random_weights=True)


def test_random_weights_download_no_weights(full_hub: Any) -> None:
    for reference in (VIT, "timm:hf-hub:someone/timm-vit"):
        load(reference, random_weights=True)
    assert not [request for request in full_hub.requests if "safetensors" in request or ".bin" in request]


def test_a_missing_repository_a_private_and_a_gated_one(full_hub: Any) -> None:
    full_hub.private.add("someone/vit")
    full_hub.gated.add("someone/deit")
    for reference, message in (
        ("hf:someone/nothing", "no public model 'someone/nothing'"),
        ("timm:hf-hub:someone/nothing", "no public model 'someone/nothing'"),
        (VIT, "hf auth login"),
        ("hf:someone/deit", "is gated: accept its conditions"),
        ("vit_tiny_patch16_224", "no public model 'timm/vit_tiny_patch16_224"),
    ):
        with pytest.raises(ModelNotFound, match=message):
            load(reference)
    with pytest.raises(InvalidValue, match="written owner/name"):
        load("hf:a/b/c")


@pytest.mark.parametrize(
    ("repository", "missing", "error", "message"),
    [
        ("hf:someone/vit", "config.json", ModelNotFound, r"no config\.json"),
        ("hf:someone/vit", "model.safetensors", ModelNotFound, "holds no weights"),
        ("timm:hf-hub:someone/timm-vit", "config.json", ModelNotFound, r"no config\.json"),
        ("timm:hf-hub:someone/timm-vit", "*", ModelNotFound, "holds no weights"),
    ],
)
def test_a_missing_file_is_named(
    full_hub: Any, repository: str, missing: str, error: type[ModelError], message: str
) -> None:
    files = full_hub.files[repository.rpartition(":")[2]]
    for name in list(files) if missing == "*" else [missing]:
        if missing != "*" or name != "config.json":
            del files[name]
    with pytest.raises(error, match=message):
        load(repository)


@pytest.mark.parametrize("reference", ["hf:someone/vit", "timm:hf-hub:someone/timm-vit"])
def test_weights_that_are_truncated_on_the_hub(full_hub: Any, reference: str) -> None:
    files = full_hub.files[reference.rpartition(":")[2]]
    whole = files["model.safetensors"]
    files["model.safetensors"] = whole[: len(whole) // 2]
    for _ in range(2):  # the copy in the cache is not trusted the second time either
        with pytest.raises(ModelUnreadable, match=r"whole safetensors file|are damaged"):
            load(reference)
    files["model.safetensors"] = whole
    load(reference)


@pytest.mark.parametrize("reference", ["hf:someone/vit", "timm:hf-hub:someone/timm-vit"])
@pytest.mark.parametrize("chunk_bytes", [None, 1000])
def test_a_connection_that_breaks_off_leaves_nothing_behind(
    full_hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, chunk_bytes: int | None
) -> None:
    """The client itself gives up a small file, but would start a large one again without end."""
    if chunk_bytes is not None:
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", chunk_bytes)
    full_hub.cut.add("model.safetensors")
    with pytest.raises(HubUnreachable, match=r"broke off|reached"):
        load(reference)
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and "safetensors" in path.name]
    assert not left
    assert not list((tmp_path / "cache").rglob("*.incomplete"))
    full_hub.cut.clear()
    load(reference)


def test_weights_of_another_model_are_refused(full_hub: Any, folders: dict[str, tuple[Any, Path]]) -> None:
    other = (folders["dinov2"][1] / "model.safetensors").read_bytes()
    full_hub.files["someone/vit"]["model.safetensors"] = other
    with pytest.raises(ModelUnreadable, match=r"lacks|does not have|belongs to no ViT"):
        load(VIT)
    full_hub.files["someone/timm-vit"]["model.safetensors"] = other
    with pytest.raises(ModelUnreadable, match="timm cannot load"):
        load("timm:hf-hub:someone/timm-vit")


def test_each_library_is_told_from_the_other(full_hub: Any) -> None:
    with pytest.raises(ModelUnreadable, match="write hf:someone/vit"):
        load("timm:hf-hub:someone/vit")
    with pytest.raises(Unsupported, match="write timm:hf-hub:someone/timm-vit"):
        load("hf:someone/timm-vit")


def test_the_whole_way_in_a_process_of_its_own(hub: Any, folders: dict[str, tuple[Any, Path]], tmp_path: Path) -> None:
    """As a user runs it: only the environment points at the hub; transformers loads from it too."""
    for name in ("vit", "deit"):
        hub.add_folder(f"someone/{name}", folders[name][1])
    script = (
        "import numpy as np\n"
        "from PIL import Image\n"
        "from vitlet.models.parity import check_parity\n"
        "from vitlet.models.reference import load\n"
        "image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8))\n"
        "for name in ('vit', 'deit'):\n"
        "    found = check_parity(load('hf:someone/' + name), [image])\n"
        "    assert found.preprocessing_max_abs == 0 and found.logits_max_abs <= 1e-4, found\n"
        "    assert 'PIL image processor' in found.library and not found.reason, found\n"
        "    print(name, 'equal')\n"
    )
    unset = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=600, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["vit", "equal", "deit", "equal"]
