"""The check against the source library: what agrees, what it says when something does not."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from PIL import Image
from torch import nn

from vitlet.models import deit
from vitlet.models.build import build
from vitlet.models.checkpoint import load_checkpoint, save_checkpoint
from vitlet.models.parity import check_parity
from vitlet.models.reference import load
from vitlet.records import Classifier, ImageSpec, Parity, VitArchitecture

TOLERANCE = 1e-4


def _agrees(found: Parity, library: str, images: int = 3) -> None:
    assert found.library.startswith(library)
    assert found.images == images
    assert found.preprocessing_max_abs == 0
    assert found.logits_max_abs is not None
    assert found.logits_max_abs <= TOLERANCE


@pytest.fixture
def folder(tmp_path: Path, lively: Callable[..., nn.Module]) -> Path:
    """A small DeiT with teacher in transformers' own files, its processor too."""
    common: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "num_labels": 5}
    config = transformers.DeiTConfig(**common, intermediate_size=80, image_size=64, patch_size=16)
    lively(transformers.DeiTForImageClassificationWithTeacher(config)).save_pretrained(tmp_path)
    size = {"size": {"height": 73, "width": 73}, "crop_size": {"height": 64, "width": 64}}
    processor = {"image_processor_type": "DeiTImageProcessor", **size}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "size"), [("vit_tiny_patch16_224", 64), ("deit_tiny_distilled_patch16_224", None), ("regnety_002", None)]
)
def test_timm_agrees_on_random_weights(name: str, size: int | None, pictures: list[Image.Image]) -> None:
    found = check_parity(load(name, random_weights=True, seed=7, image_size=size), pictures)
    _agrees(found, f"timm {timm.__version__}")
    assert not found.reason


def test_transformers_agrees(folder: Path, pictures: list[Image.Image]) -> None:
    before = transformers.utils.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled()
    found = check_parity(load(f"hf:{folder}"), pictures)
    _agrees(found, f"transformers {transformers.__version__} with its PIL image processor")
    assert not found.reason
    assert (transformers.utils.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled()) == before


def test_random_weights_of_a_transformers_model(folder: Path, pictures: list[Image.Image]) -> None:
    found = check_parity(load(f"hf:{folder}", random_weights=True, seed=2), pictures)
    _agrees(found, "transformers")
    assert "conversion of transformers' own was compared" in found.reason


def test_transformers_at_another_size(folder: Path, pictures: list[Image.Image]) -> None:
    found = check_parity(load(f"hf:{folder}", image_size=96), pictures)
    assert found.logits_max_abs is not None
    assert found.logits_max_abs <= TOLERANCE
    assert found.preprocessing_max_abs is None
    assert "another size" in found.reason


def test_without_transformers_the_way_to_it_is_said(
    folder: Path, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(f"hf:{folder}")
    monkeypatch.setitem(sys.modules, "transformers", None)
    found = check_parity(loaded, pictures)
    assert 'pip install "vitlet[hf]"' in found.reason
    assert (found.preprocessing_max_abs, found.logits_max_abs) == (None, None)


@pytest.mark.parametrize("size", [None, 160])
def test_deit_agrees(
    size: int | None,
    hub: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lively: Callable[..., nn.Module],
    pictures: list[Image.Image],
) -> None:
    name = "deit_tiny_distilled_patch16_224"
    stream = io.BytesIO()
    torch.save({"model": lively(timm.create_model(name)).state_dict()}, stream)
    filename = f"{name}-{hashlib.sha256(stream.getvalue()).hexdigest()[:8]}.pth"
    hub.files["plain"] = {filename: stream.getvalue()}
    monkeypatch.setattr(deit, "BASE_URL", f"{hub.url}/plain/")
    monkeypatch.setattr(deit, "FILES", {name: filename})
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    found = check_parity(load(f"deit:{name}", image_size=size), pictures[:1])
    _agrees(found, "timm", images=1)
    assert "DeiT's weights and transform" in found.library


def test_deit_agrees_on_random_weights(pictures: list[Image.Image]) -> None:
    _agrees(check_parity(load("deit:deit_tiny_patch16_224", random_weights=True, seed=4), pictures[:1]), "timm", 1)


def test_a_difference_is_seen(pictures: list[Image.Image]) -> None:
    loaded = load("vit_tiny_patch16_224", random_weights=True, image_size=64)
    off = replace(loaded, image_spec=replace(loaded.image_spec, interpolation="bilinear"))
    found = check_parity(off, pictures)
    assert found.preprocessing_max_abs is not None
    assert found.preprocessing_max_abs > 0.01
    assert found.logits_max_abs is not None
    assert found.logits_max_abs <= TOLERANCE
    changed = load("vit_tiny_patch16_224", random_weights=True, image_size=64)
    with torch.no_grad():
        changed.module.head.bias[0] += 0.01
    found = check_parity(changed, pictures)
    assert found.preprocessing_max_abs == 0
    assert found.logits_max_abs == pytest.approx(0.01, rel=1e-3)
    with torch.no_grad():
        changed.module.head.bias[0] = float("nan")
    assert check_parity(changed, pictures).logits_max_abs == float("inf")
    larger = replace(loaded, image_spec=replace(loaded.image_spec, mean=(0.0, 0.0, 0.0)))
    assert check_parity(larger, pictures).preprocessing_max_abs > 0.1  # type: ignore[operator]


def test_without_images_a_random_input_is_compared() -> None:
    found = check_parity(load("vit_tiny_patch16_224", random_weights=True, image_size=64), [])
    assert (found.images, found.preprocessing_max_abs) == (0, None)
    assert found.logits_max_abs is not None
    assert found.logits_max_abs <= TOLERANCE
    assert "no images were given" in found.reason


def test_vitlets_own_models_have_nothing_to_be_compared_with(tmp_path: Path, pictures: list[Image.Image]) -> None:
    architecture = VitArchitecture(32, 32, 8, 48, 1, 3, 64, 3)
    own = Classifier(build(architecture), architecture, ImageSpec(32, 32, 32), ("a", "b", "c"), "x", "timm")
    loaded = load_checkpoint(save_checkpoint(own, tmp_path / "own.safetensors"))
    found = check_parity(loaded, pictures)
    assert (found.logits_max_abs, found.preprocessing_max_abs) == (None, None)
    assert "only one there is" in found.reason
