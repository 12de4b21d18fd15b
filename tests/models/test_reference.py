"""What a user types, and the errors for what is not there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from vitlet.errors import InvalidValue, ModelNotFound, ModelUnreadable, Unsupported, VitletError
from vitlet.models.build import build
from vitlet.models.checkpoint import save_checkpoint
from vitlet.models.reference import Reference, load, parse
from vitlet.records import Classifier, ImageSpec, TimmArchitecture, VitArchitecture


@pytest.fixture
def own(tmp_path: Path, lively: Callable[..., nn.Module]) -> Path:
    """A small model in vitlet's own format."""
    architecture = VitArchitecture(32, 32, 8, 48, 1, 3, 64, 3)
    spec = ImageSpec(32, 32, 40)
    classifier = Classifier(lively(build(architecture)), architecture, spec, ("a", "b", "c"), "x", "timm")
    return save_checkpoint(classifier, tmp_path / "own.safetensors")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("timm:vit_tiny_patch16_224", Reference("timm", "vit_tiny_patch16_224")),
        ("vit_tiny_patch16_224.augreg_in21k", Reference("timm", "vit_tiny_patch16_224.augreg_in21k")),
        (" deit_small_patch16_224 ", Reference("timm", "deit_small_patch16_224")),
        ("timm:hf-hub:owner/name@v1", Reference("timm", "hf-hub:owner/name@v1")),
        ("hf-hub:owner/name", Reference("timm", "hf-hub:owner/name")),
        ("hf:google/vit-base-patch16-224", Reference("hf", "google/vit-base-patch16-224")),
        ("hf:./folder", Reference("hf", "./folder")),
        ("deit:deit_base_patch16_384", Reference("deit", "deit_base_patch16_384")),
        ("bundled", Reference("bundled", "bundled")),
        ("a/b.pth", Reference("file", "a/b.pth")),
        ("b.safetensors?heads=3&mean=1,2,3", Reference("file", "b.safetensors", {"heads": "3", "mean": "1,2,3"})),
    ],
)
def test_references_are_taken_apart(text: str, meant: Reference) -> None:
    assert parse(text) == meant


def test_a_folder_is_hugging_faces(tmp_path: Path) -> None:
    assert parse(str(tmp_path)) == Reference("hf", str(tmp_path))


def test_a_folder_does_not_hide_a_timm_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "regnety_002").mkdir()
    assert parse("regnety_002").source == "timm"
    assert parse("./regnety_002") == Reference("hf", "./regnety_002")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", InvalidValue, "names no model"),
        ("hf:", InvalidValue, "names no model"),
        ("google/vit-base-patch16-224", ModelNotFound, "write hf:google/vit-base-patch16-224"),
        ("./nowhere", ModelNotFound, r"no file or folder \./nowhere"),
        ("/nowhere/at/all", ModelNotFound, "no file or folder /nowhere/at/all$"),
        ("nowhere.pth", ModelNotFound, r"no file nowhere\.pth"),
        ("deit_smal_patch16_224", ModelNotFound, "did you mean deit_small_patch16_224"),
        ("zzzzzzzz", ModelNotFound, "has no model 'zzzzzzzz'"),
        ("vit_tiny_patch16_224.augreg_in21", ModelNotFound, r"did you mean vit_tiny_patch16_224\.augreg_in21k"),
        ("vit_small_patch14_dinov2", Unsupported, "no classifier head"),
        ("timm:local-dir:nowhere", ModelNotFound, r"holds no config\.json"),
        ("resnet50.a1_in1k?x=1", ModelNotFound, "timm has no"),
    ],
)
def test_what_is_not_there_is_one_sentence(text: str, error: type[VitletError], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        load(text)
    assert "\n" not in str(raised.value)


def test_a_timm_model_without_weights_says_so() -> None:
    with pytest.raises(ModelNotFound, match="no weights for vit_giant_patch14_224"):
        load("vit_giant_patch14_224")


def test_the_bundled_model_loads() -> None:
    from vitlet.models.bundled import bundled_weights

    if not bundled_weights().is_file():
        pytest.skip("this copy was built without the bundled model")
    loaded = load("bundled")
    assert (loaded.library, loaded.reference, len(loaded.labels)) == ("bundled", "bundled", 10)


def test_own_files_load_and_say_what_does_not_go(own: Path) -> None:
    loaded = load(str(own))
    assert (loaded.library, loaded.labels) == ("checkpoint", ("a", "b", "c"))
    with pytest.raises(InvalidValue, match=r"leave out '\?heads=\.\.\.'"):
        load(f"{own}?heads=3")
    with pytest.raises(InvalidValue, match="random weights are for"):
        load(str(own), random_weights=True)


def test_own_files_can_be_resized(own: Path) -> None:
    loaded = load(str(own), image_size=48)
    assert (loaded.architecture.image_height, loaded.image_spec.height, loaded.image_spec.resize) == (48, 48, 60)
    assert loaded.module(torch.randn(1, 3, 48, 48)).shape == (1, 3)
    assert load(str(own), image_size=32).architecture == load(str(own)).architecture


def test_only_a_vit_can_be_resized(tmp_path: Path) -> None:
    architecture = TimmArchitecture("regnety_002", 2, 64, 64)
    classifier = Classifier(build(architecture), architecture, ImageSpec(64, 64, 64), ("a", "b"), "x", "timm")
    path = save_checkpoint(classifier, tmp_path / "regnet.safetensors")
    with pytest.raises(InvalidValue, match="only a ViT can be resized"):
        load(str(path), image_size=96)


@pytest.mark.parametrize("size", [0, -1, 10_000])
def test_image_sizes_out_of_range(size: int) -> None:
    with pytest.raises(InvalidValue, match="image_size is"):
        load("vit_tiny_patch16_224", image_size=size)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit:deit_tiny_patch16_224"])
def test_an_image_size_without_a_patch(name: str) -> None:
    with pytest.raises(InvalidValue, match="holds no patch of 16"):
        load(name, image_size=8, random_weights=True)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("regnety_002", 160),
        ("swin_tiny_patch4_window7_224", None),
        ("tiny_vit_5m_224.in1k", None),
        ("vit_tiny_patch16_224", 96),
    ],
)
def test_any_timm_classifier_loads_and_can_be_rebuilt(name: str, size: int | None, tmp_path: Path) -> None:
    from vitlet.models.checkpoint import load_checkpoint

    loaded = load(name, random_weights=True, seed=3, image_size=size)
    assert loaded.architecture.image_height == loaded.image_spec.height == (size or 224)
    assert bool(loaded.note) == isinstance(loaded.architecture, TimmArchitecture) == (not name.startswith("vit"))
    again = load_checkpoint(save_checkpoint(loaded, tmp_path / "model.safetensors"))
    images = torch.randn(1, 3, loaded.image_spec.height, loaded.image_spec.width)
    with torch.inference_mode():
        assert torch.equal(loaded.module(images), again.module(images))


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("swin_tiny_patch4_window7_224", 3, r"cannot take images of \(3, 3\) pixels"),
        ("xcit_nano_12_p16_224", 30, "cannot make xcit_nano_12_p16_224 for 30 pixels"),
        ("test_vit", 50, "divisible by patch size"),
    ],
)
def test_a_size_that_does_not_go_says_so(name: str, size: int, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        load(name, image_size=size, random_weights=True)


def test_a_name_that_timm_changed_is_followed() -> None:
    loaded = load("vit_tiny_patch16_224_in21k", random_weights=True, image_size=32)
    assert (loaded.architecture.classes, len(loaded.labels)) == (21843, 21843)
    assert loaded.labels[:2] == ("organism, being", "benthos")


def test_random_weights_depend_on_the_seed_alone() -> None:
    state = torch.random.get_rng_state()
    one, same, other = (
        load("vit_tiny_patch16_224", random_weights=True, image_size=32, seed=seed).module.head.weight
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_damaged_own_file_is_not_taken_for_another_kind(own: Path) -> None:
    own.write_bytes(own.read_bytes()[:-10])
    with pytest.raises(ModelUnreadable, match="no whole safetensors file"):
        load(str(own))


def test_importing_the_sources_imports_no_runtime() -> None:
    modules = "reference, build, checkpoint, timm, hf, deit, hub, labels, pickle_file, safetensors_file, weights"
    code = (
        "import sys\n"
        f"from vitlet.models import {modules}\n"
        "print([name for name in ('torch', 'timm', 'transformers', 'huggingface_hub') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.strip() == "[]"
