"""vitlet's own files: there and back, and what happens to damaged and hostile ones."""

from __future__ import annotations

import json
import os
import resource
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import nn

from vitlet.errors import InvalidValue, ModelNotFound, ModelUnreadable, NotWritable
from vitlet.models.build import build, expected_tensors
from vitlet.models.checkpoint import load_checkpoint, save_checkpoint
from vitlet.models.safetensors_file import LARGEST_HEADER_BYTES
from vitlet.records import Classifier, ImageSpec, TimmArchitecture, VitArchitecture

SPEC = ImageSpec(32, 32, 36, mean=(0.1, 0.2, 0.3))
LABELS = ("T-shirt", "Œuvre", "車")
VIT = VitArchitecture(32, 32, 8, 48, 2, 3, 64, 3, distillation_token=True)


@pytest.fixture
def classifier(lively: Callable[..., nn.Module]) -> Classifier:
    return Classifier(lively(build(VIT)), VIT, SPEC, LABELS, "timm:something", "timm")


@pytest.fixture
def saved(classifier: Classifier, tmp_path: Path) -> Path:
    return save_checkpoint(classifier, tmp_path / "model.safetensors")


def _parts(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _write(path: Path, header: dict[str, Any] | bytes, body: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def _tell(path: Path, key: str, **changes: Any) -> None:
    """Change fields of one of vitlet's own metadata entries."""
    header, body = _parts(path)
    value = json.loads(header["__metadata__"][key])
    header["__metadata__"][key] = json.dumps({**value, **changes})
    _write(path, header, body)


def test_there_and_back(classifier: Classifier, saved: Path) -> None:
    again = load_checkpoint(saved)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(again.module(images), classifier.module(images))
    assert (again.architecture, again.image_spec, again.labels) == (VIT, SPEC, LABELS)
    assert (again.reference, again.library, again.module.training) == (str(saved), "checkpoint", False)


def test_equal_classifiers_make_equal_files(classifier: Classifier, saved: Path, tmp_path: Path) -> None:
    """The library's own order of metadata is another one each time."""
    files = {save_checkpoint(classifier, tmp_path / f"{number}.safetensors").read_bytes() for number in range(12)}
    assert files == {saved.read_bytes()}
    length = int.from_bytes(saved.read_bytes()[:8], "little")
    metadata = json.loads(saved.read_bytes()[8 : 8 + length])["__metadata__"]
    assert list(metadata) == sorted(metadata)
    assert len(metadata) > 1


def test_half_precision_halves_the_file_and_loads_as_float32(classifier: Classifier, saved: Path) -> None:
    half = save_checkpoint(classifier, saved.with_name("half.safetensors"), dtype="float16")
    assert half.stat().st_size < 0.6 * saved.stat().st_size
    again = load_checkpoint(half)
    assert {parameter.dtype for parameter in again.module.parameters()} == {torch.float32}
    for name, tensor in classifier.module.state_dict().items():
        assert torch.equal(again.module.state_dict()[name], tensor.half().float()), name


def test_a_timm_model_goes_there_and_back_with_its_buffers(tmp_path: Path) -> None:
    architecture = TimmArchitecture("regnety_002", 3, 64, 64)
    module = build(architecture, seed=1)
    module.train()(torch.randn(4, 3, 64, 64))  # moves the running means of the batch norms
    classifier = Classifier(module.eval(), architecture, ImageSpec(64, 64, 64), LABELS, "regnety_002", "timm")
    again = load_checkpoint(save_checkpoint(classifier, tmp_path / "regnet.safetensors"))
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(again.module(images), module(images))


def test_an_architecture_says_what_its_file_holds() -> None:
    for architecture in (VIT, TimmArchitecture("regnety_002", 3, 64, 64)):
        built = build(architecture).state_dict()
        expected = expected_tensors(architecture)
        assert {name: (t.shape, t.dtype) for name, t in built.items()} == {
            name: (t.shape, t.dtype) for name, t in expected.items()
        }


def test_building_is_seeded_and_leaves_the_random_state_alone() -> None:
    state = torch.random.get_rng_state()
    for architecture in (VIT, TimmArchitecture("regnety_002", 3, 64, 64)):
        one, same, other = (build(architecture, seed=seed).state_dict() for seed in (1, 1, 2))
        assert all(torch.equal(one[name], same[name]) for name in one)
        assert any(not torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(state, torch.random.get_rng_state())


def test_an_existing_file_is_replaced_only_by_a_whole_one(classifier: Classifier, saved: Path) -> None:
    before = saved.read_bytes()
    broken = replace(classifier, module=build(VIT))
    with torch.no_grad():
        next(broken.module.parameters()).fill_(1e9)
    with pytest.raises(InvalidValue, match="float16 cannot"):
        save_checkpoint(broken, saved, dtype="float16")
    assert saved.read_bytes() == before
    save_checkpoint(broken, saved)
    assert load_checkpoint(saved).module.state_dict()["prefix"].max() == 1e9
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_weights_that_are_not_finite_are_not_written(classifier: Classifier, tmp_path: Path) -> None:
    with torch.no_grad():
        classifier.module.head.bias[0] = float("nan")
    with pytest.raises(InvalidValue, match=r"head\.bias holds numbers"):
        save_checkpoint(classifier, tmp_path / "nan.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_said(classifier: Classifier, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(NotWritable, match="cannot be written"):
        save_checkpoint(classifier, tmp_path / "nowhere" / "model.safetensors")
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotWritable, match="folder cannot be written"):
        save_checkpoint(classifier, tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", saved.name]
    with pytest.raises(InvalidValue, match="'float32', 'float16' or 'bfloat16'"):
        save_checkpoint(classifier, tmp_path / "x.safetensors", dtype="int8")  # type: ignore[arg-type]


def test_a_full_disk_is_said_and_leaves_nothing(classifier: Classifier, tmp_path: Path) -> None:
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails instead
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(NotWritable, match="cannot be written"):
            save_checkpoint(classifier, tmp_path / "model.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="there is no file"):
        load_checkpoint(tmp_path / "nothing.safetensors")
    with pytest.raises(ModelUnreadable, match="cannot be read"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 8, 100, 5000, -1])
def test_a_truncated_file(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(ModelUnreadable, match="no whole safetensors file"):
        load_checkpoint(saved)


def test_every_shorter_file_is_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    for keep in range(1, len(whole), 997):
        saved.write_bytes(whole[:keep])
        with pytest.raises(ModelUnreadable):
            load_checkpoint(saved)


def test_headers_that_lie(saved: Path) -> None:
    header, body = _parts(saved)
    names = sorted((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    first, second = names[:2]
    lies: dict[str, dict[str, Any]] = {
        "overlap": {second: {**header[second], "data_offsets": header[first]["data_offsets"]}},
        "beyond the end": {second: {**header[second], "data_offsets": [0, 1 << 60]}},
        "huge shape": {second: {**header[second], "shape": [1 << 40, 1 << 40]}},
        "negative": {second: {**header[second], "data_offsets": [-8, 8]}},
        "backwards": {second: {**header[second], "data_offsets": header[second]["data_offsets"][::-1]}},
        "shape and bytes differ": {second: {**header[second], "shape": [1]}},
        "unknown type": {second: {**header[second], "dtype": "F7"}},
        "no offsets": {second: {"dtype": "F32", "shape": [1]}},
    }
    believed = []
    for lie, change in lies.items():
        _write(saved, {**header, **change}, body)
        try:
            load_checkpoint(saved)
            believed.append(lie)
        except ModelUnreadable:
            pass
    assert not believed


def test_a_file_with_a_wrong_byte_never_crashes(saved: Path) -> None:
    whole = bytearray(saved.read_bytes())
    (length,) = struct.unpack("<Q", whole[:8])
    generator = np.random.default_rng(0)
    refused = 0
    for place, value in zip(generator.integers(0, 8 + length, 300), generator.integers(0, 256, 300), strict=True):
        damaged = whole.copy()
        damaged[place] = value
        saved.write_bytes(damaged)
        try:
            load_checkpoint(saved)  # a changed label or colour mean cannot be told
        except (ModelUnreadable, ModelNotFound):
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    "text",
    [b"[]", b"{}", b"null", b"{" * 200_000, b'{"__metadata__": {"a": 1}}', b"\xff\xfe{}", b'{"x": NaN}', b" " * 64],
    ids=lambda text: repr(text[:24]),
)
def test_headers_that_are_none(saved: Path, text: bytes) -> None:
    _write(saved, text, b"")
    with pytest.raises(ModelUnreadable):
        load_checkpoint(saved)


def test_a_huge_header_is_not_read(saved: Path) -> None:
    saved.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    with pytest.raises(ModelUnreadable, match="no whole safetensors file"):
        load_checkpoint(saved)
    with saved.open("wb") as file:
        file.write(struct.pack("<Q", LARGEST_HEADER_BYTES + 1))
        file.truncate(LARGEST_HEADER_BYTES + 100)
    with pytest.raises(ModelUnreadable, match="header of"):
        load_checkpoint(saved)


def test_tensors_that_do_not_fit_the_architecture(classifier: Classifier, saved: Path) -> None:
    state = dict(classifier.module.state_dict())
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
    nan = state["head.bias"].clone()
    nan[0] = float("inf")
    wrong: list[tuple[dict[str, torch.Tensor], str]] = [
        ({key: value for key, value in state.items() if key != "prefix"}, "lacks tensor prefix"),
        ({key: value for key, value in state.items() if "blocks.1" not in key}, r"lacks 12 tensors"),
        (state | {"head.extra": torch.zeros(1)}, r"holds tensor head\.extra"),
        (state | {"head.bias": torch.zeros(4)}, r"head\.bias is 4, but its architecture needs 3"),
        (state | {"head.bias": torch.zeros(3, dtype=torch.int64)}, "has type torch.int64"),
        (state | {"head.bias": nan}, "not finite"),
        (state | {"head.bias": torch.zeros(3, dtype=torch.complex64)}, "has type C64"),
    ]
    for tensors, message in wrong:
        safetensors.torch.save_file(tensors, saved, metadata=metadata)
        with pytest.raises(ModelUnreadable, match=message):
            load_checkpoint(saved)


@pytest.mark.parametrize(
    ("key", "changes", "message"),
    [
        ("vitlet_architecture", {"width": float("nan")}, "metadata that cannot be read"),
        ("vitlet_architecture", {"norm_eps": float("inf")}, "metadata that cannot be read"),
        ("vitlet_architecture", {"width": 10**30}, "metadata that cannot be read"),
        ("vitlet_architecture", {"depth": -1}, "depth is -1"),
        ("vitlet_architecture", {"kind": "cnn"}, "kind is 'cnn'"),
        ("vitlet_architecture", {"width": 16384, "heads": 1, "depth": 512, "mlp_width": 131072}, "lacks"),
        ("vitlet_architecture", {"classes": 1000}, "head.weight is 3x48"),
        ("vitlet_architecture", {"image_height": 40}, "40x32 pixels, images of 32x32"),
        ("vitlet_image_spec", {"std": [0, 1, 1]}, "must be above 0"),
        ("vitlet_image_spec", {"height": "big"}, "metadata that cannot be read"),
    ],
)
def test_metadata_that_cannot_be(saved: Path, key: str, changes: dict[str, Any], message: str) -> None:
    _tell(saved, key, **changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelUnreadable, match=message):
        load_checkpoint(saved)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 200_000, "memory was taken before the file was checked"


def test_labels_versions_and_missing_metadata(saved: Path) -> None:
    whole, body = _parts(saved)

    def told(**changes: str | None) -> None:
        metadata = {**whole["__metadata__"], **changes}
        kept = {key: value for key, value in metadata.items() if value is not None}
        _write(saved, {**whole, "__metadata__": kept}, body)

    for changes, message in (
        ({"vitlet_labels": '["only one"]'}, "1 labels for 3 classes"),
        ({"vitlet_labels": "[" * 100_000}, "metadata that cannot be read"),
        ({"vitlet_labels": None}, "vitlet_labels is missing"),
        ({"vitlet_architecture": None}, "not written by vitlet"),
        ({"vitlet_format": "2"}, "update vitlet"),
    ):
        told(**changes)  # type: ignore[arg-type]
        with pytest.raises(ModelUnreadable, match=message):
            load_checkpoint(saved)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("no_such_model", {}, "has no model 'no_such_model'"),
        ("regnety_002", {"pretrained": True}, "'pretrained' of regnety_002 does not describe"),
        ("regnety_002", {"checkpoint_path": "/etc/passwd"}, "'checkpoint_path'"),
        ("regnety_002", {"features_only": True}, "'features_only'"),
        ("regnety_002", {"no_such_option": 1}, "timm cannot build"),
        ("vit_tiny_patch16_224", {"depth": 100_000}, "too large"),
        ("vit_tiny_patch16_224", {"embed_dim": 10**9}, "too large"),
        ("vit_tiny_patch16_224", {"depth": 12, "img_size": 32}, "lacks"),
    ],
)
def test_a_file_cannot_make_timm_do_other_things(saved: Path, name: str, options: dict[str, Any], message: str) -> None:
    header, body = _parts(saved)
    told = {"kind": "timm", "name": name, "classes": 3, "image_height": 32, "image_width": 32, "options": options}
    header["__metadata__"]["vitlet_architecture"] = json.dumps(told)
    _write(saved, header, body)
    with pytest.raises((ModelUnreadable, ModelNotFound), match=message):
        load_checkpoint(saved)


def test_a_small_file_cannot_make_timm_build_a_large_model(saved: Path) -> None:
    """ViT-L would take 1.2 GB; the file is compared with its shapes first."""
    header, body = _parts(saved)
    told = {"kind": "timm", "name": "vit_large_patch16_224", "classes": 3, "image_height": 32, "image_width": 32}
    header["__metadata__"]["vitlet_architecture"] = json.dumps(told)
    _write(saved, header, body)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 500_000_000, hard))
        with pytest.raises(ModelUnreadable, match="lacks"):
            load_checkpoint(saved)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_the_weights_do_not_hang_on_the_file(classifier: Classifier, saved: Path) -> None:
    again = load_checkpoint(saved)
    os.truncate(saved, 0)  # a mapped file would kill the process at the next read
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(again.module(images), classifier.module(images))
