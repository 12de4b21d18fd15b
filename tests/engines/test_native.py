"""The native engine beyond the common rules: the same bits on every instruction set, exact rewrites, damaged files."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vitlet.engines import engine
from vitlet.errors import InvalidValue, ModelUnreadable, Unsupported
from vitlet.records import Precision, TimmArchitecture

FP32, INT8 = Precision("fp32"), Precision("int8-dynamic")

pytestmark = pytest.mark.skipif(not engine("native").available().ok, reason="vitlet was built without a C++ compiler")


@pytest.fixture(scope="module")
def native():
    return engine("native")


def instruction_sets() -> list[str]:
    from vitlet.engines.native.session import load_library

    return load_library().instruction_sets().split()


def metadata(path: Path) -> dict[str, str]:
    whole = path.read_bytes()
    return json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]


def test_the_compiler_was_there():
    """In CI a build without the C++ part would skip all tests of it."""
    assert "CI" not in os.environ or engine("native").available().ok


@pytest.mark.parametrize("name", ["distilled", "pooled"])
def test_int8_gives_the_same_bits_everywhere(native, name, classifiers, exported, images_for, monkeypatch):
    """Instruction sets, threads, and places in a batch: what was certified here holds there."""
    artifact = exported(native, INT8, name)
    images = images_for(classifiers[name], 5)
    first = native.open(artifact, threads=1).run(images)
    assert len(instruction_sets()) > 1
    for instructions in instruction_sets():
        monkeypatch.setenv("VITLET_ISA", instructions)
        for threads in (1, 2, 3, 7):
            session = native.open(artifact, threads=threads)
            assert session.instruction_set == instructions
            np.testing.assert_array_equal(session.run(images), first)
            np.testing.assert_array_equal(session.run(images[3:4]), first[3:4])


@pytest.mark.parametrize("name", ["distilled", "pooled"])
def test_fp32_differs_by_rounding_alone(native, name, classifiers, exported, images_for, logits_of, monkeypatch):
    artifact = exported(native, FP32, name)
    images = images_for(classifiers[name], 2)
    wanted = logits_of(classifiers[name], images)
    for instructions in instruction_sets():
        monkeypatch.setenv("VITLET_ISA", instructions)
        found = native.open(artifact, threads=2).run(images)
        assert np.linalg.norm(found - wanted) < 3e-6 * np.linalg.norm(wanted)


def test_int8_error_is_that_of_the_weights(native, exported, distilled, images_for, logits_of, relative_error):
    """This small model's weights alone, rounded to int8, make 0.026; ONNX Runtime's dynamic int8 0.04."""
    images = images_for(distilled, 8)
    found = native.open(exported(native, INT8), threads=1).run(images)
    assert relative_error(found, logits_of(distilled, images)) < 0.035


def test_the_heads_take_activations_of_16_bits(native, exported, distilled, images_for, relative_error, tmp_path):
    """Their weights being read for one token costs what reading them for two would: 8 bits more of it are free. With
    blocks that add nothing the heads see the prefix tokens."""
    artifact = exported(native, INT8)
    tensors = load_file(artifact.path)
    for name, values in tensors.items():
        if ".projection." in name or ".down." in name:
            tensors[name] = np.ones_like(values) if name.endswith("scale") else np.zeros_like(values)
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, metadata(artifact.path))
    found = native.open(replace(artifact, path=path), threads=1).run(images_for(distilled, 1))
    tokens = tensors["prefix"].astype(np.float64)
    tokens = (tokens - tokens.mean(1, keepdims=True)) / np.sqrt(
        tokens.var(1, keepdims=True) + distilled.architecture.norm_eps
    )
    tokens = tokens * tensors["final_norm.weight"] + tensors["final_norm.bias"]

    def logits(tokens: np.ndarray) -> np.ndarray:
        each = [
            (tensors[f"{head}.weight"] * tensors[f"{head}.scale"][:, None]) @ token + tensors[f"{head}.bias"]
            for head, token in zip(("head", "distillation_head"), tokens, strict=True)
        ]
        return np.mean(each, axis=0)[None]

    low = tokens.min(1, keepdims=True)
    step = (tokens.max(1, keepdims=True) - low) / 255
    of_8_bits = logits(np.rint((tokens - low) / step) * step + low)
    assert relative_error(of_8_bits, logits(tokens)) > 5e-3
    assert relative_error(found, logits(tokens)) < 5e-5


def test_pixels_are_what_normalised_images_are(native, exported, distilled, images_for):
    """The preprocessing that is left on a device is a resize: mean and standard deviation are in the file."""
    from vitlet.engines.native.session import load_library

    artifact = exported(native, INT8)
    spec = distilled.image_spec
    pixels = np.random.default_rng(0).integers(0, 256, (3, spec.height, spec.width, 3), np.uint8)
    normalised = ((pixels / 255 - spec.mean) / spec.std).transpose(0, 3, 1, 2).astype(np.float32)
    library = load_library()
    model = library.Model(str(artifact.path))
    np.testing.assert_array_equal(
        library.Session(model, 1).run_rgb(pixels), native.open(artifact, threads=1).run(normalised)
    )


def test_the_file_says_what_a_device_needs(native, exported, distilled):
    found = metadata(exported(native, INT8).path)
    assert json.loads(found["image_spec"])["interpolation"] == distilled.image_spec.interpolation
    configuration = json.loads(found["vitlet"])
    assert configuration["labels"] == list(distilled.labels)
    assert configuration["mean"] == list(distilled.image_spec.mean)


def test_weights_are_a_quarter(native, exported):
    assert 0.25 < exported(native, INT8).size_bytes / exported(native, FP32).size_bytes < 0.32


def test_opening_imports_no_pytorch(native, exported, fresh_process):
    code = """
import numpy as np
from vitlet.engines import engine
from vitlet.records import Artifact, from_json
artifact = from_json(arguments[0], Artifact)
engine("native").open(artifact, threads=1).run(np.zeros((1, 3, 32, 32), np.float32))
print(json.dumps(sorted({"torch", "timm", "safetensors"} & set(sys.modules))))
"""
    assert fresh_process(code, exported(native, INT8)).answer == []


def test_explain_tells_the_phases(native, exported, distilled, images_for):
    execution = native.explain(exported(native, INT8), threads=1, images=images_for(distilled, 1))
    uses = {use.name: use for use in execution.operators}
    assert {"qkv", "attention", "softmax", "up", "activation", "down", "norm", "quantize"} <= set(uses)
    assert uses["qkv"].arithmetic == "int8"
    assert uses["softmax"].arithmetic == "fp32"
    assert all(use.time_ms is not None and use.time_ms >= 0 for use in uses.values())
    assert sum(use.time_ms for use in uses.values()) > 0.01


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c | {"patch": 0}, "patch"),
        (lambda c: c | {"width": 191}, "does not have the shape"),
        (lambda c: c | {"image_height": 10**9}, "image_height"),
        (lambda c: c | {"blocks": []}, "blocks must be 1 to 512"),
        (lambda c: c | {"precision": "int3"}, "precision int3 is not known"),
        (lambda c: c | {"format": 2}, "a newer vitlet is needed"),
        (lambda c: c | {"labels": ["one"]}, "one label per class"),
    ],
)
def test_a_configuration_that_lies_is_refused(native, exported, tmp_path, change, sentence):
    artifact = exported(native, INT8)
    path = tmp_path / "model.safetensors"
    text = json.dumps(change(json.loads(metadata(artifact.path)["vitlet"])))
    save_file(load_file(artifact.path), path, {"vitlet": text})
    with pytest.raises(ModelUnreadable, match=sentence):
        native.open(replace(artifact, path=path), threads=1)


def test_another_checkpoint_is_no_model(native, exported):
    with pytest.raises(ModelUnreadable, match='its metadata has no "vitlet"'):
        native.open(replace(exported(native, FP32), path=exported(engine("torch"), FP32).path), threads=1)


def test_another_artifact_is_refused(native, exported):
    artifact = exported(native, INT8)
    with pytest.raises(ModelUnreadable, match=r"another artifact \(classes 10 instead of 11\)"):
        native.open(replace(artifact, classes=11), threads=1)
    with pytest.raises(ModelUnreadable, match="precision 'int8-dynamic' instead of 'fp32'"):
        native.open(replace(artifact, precision=FP32), threads=1)


def test_unknown_instruction_set_is_a_sentence(native, exported, monkeypatch):
    monkeypatch.setenv("VITLET_ISA", "sse9")
    with pytest.raises(InvalidValue, match=r"VITLET_ISA is 'sse9'; it must be one that this processor has: .*generic"):
        native.open(exported(native, INT8), threads=1)


def test_too_large_a_model_is_refused_before_it_is_written(native, distilled, tmp_path):
    large = replace(distilled, architecture=replace(distilled.architecture, mlp_width=70_000))
    with pytest.raises(Unsupported, match="a linear of 70000 inputs; the native engine takes up to 65536 in int8"):
        native.export(large, INT8, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", [FP32, INT8])
def test_an_image_that_is_no_number_is_refused(native, exported, distilled, images_for, precision):
    session = native.open(exported(native, precision), threads=2)
    images = images_for(distilled, 2)
    wanted = session.run(images)
    for wrong in (np.nan, np.inf):
        spoilt = images.copy()
        spoilt[1, 2, 3, 4] = wrong
        with pytest.raises(InvalidValue, match="values that are infinite or no numbers"):
            session.run(spoilt)
    np.testing.assert_array_equal(session.run(images), wanted)


def test_pixels_of_another_dtype_are_not_converted(native, exported):
    """Floats of 0..1 would become zeros."""
    from vitlet.engines.native.session import load_library

    session = load_library().Session(load_library().Model(str(exported(native, INT8).path)), 1)
    with pytest.raises(TypeError):
        session.run_rgb(np.zeros((1, 32, 32, 3), np.float32))


def test_what_is_no_vit_is_refused(native, classifiers, tmp_path):
    assert isinstance(classifiers["opaque"].architecture, TimmArchitecture)
    with pytest.raises(Unsupported, match="is no canonical ViT"):
        native.export(classifiers["opaque"], INT8, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_without_the_library_everything_else_works(native, distilled, monkeypatch, tmp_path):
    monkeypatch.setattr("vitlet.engines.native.find_spec", lambda name: None)
    assert not native.available().ok
    with pytest.raises(Unsupported, match=r"without its C\+\+ part, which needs Linux or macOS and GCC 10"):
        native.export(distilled, INT8, tmp_path / "model")


def test_several_python_threads_run_one_library(native, exported, distilled, images_for):
    """The library lets other Python threads run while it computes; each has its own session."""
    from concurrent.futures import ThreadPoolExecutor

    artifact = exported(native, INT8)
    images = images_for(distilled, 4)
    wanted = native.open(artifact, threads=1).run(images)

    def answers(_: int) -> np.ndarray:
        session = native.open(artifact, threads=2)
        return [session.run(images) for _ in range(10)]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(answers, range(4)):
            for logits in found:
                np.testing.assert_array_equal(logits, wanted)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts threads in /proc")
def test_closing_ends_the_threads(native, exported, distilled, images_for):
    """Counted by name: other libraries of this process start and end threads of their own at any time."""

    def threads() -> list[str]:
        found = []
        for task in Path("/proc/self/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                found.append((task / "comm").read_text().strip())
        return sorted(name for name in found if name.startswith("vitlet-"))

    gc.collect()  # sessions that other tests left open
    before = threads()
    session = native.open(exported(native, INT8), threads=6)
    session.run(images_for(distilled, 1))  # a thread names itself when it first runs
    assert threads() == sorted([*before, *(f"vitlet-{number}" for number in range(1, 6))])
    session.close()
    for _ in range(100):  # a thread that was joined may still be listed for a moment
        if threads() == before:
            break
        time.sleep(0.01)
    assert threads() == before


def test_a_process_may_end_with_an_open_session(exported, native, tmp_path):
    code = """
import sys, numpy as np
from pathlib import Path
from vitlet.engines.native.session import load_library
model = load_library().Model(sys.argv[1])
session = load_library().Session(model, 4)
session.run(np.zeros((1, 3, 32, 32), np.float32))
"""
    path = exported(native, INT8).path
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, path], capture_output=True, timeout=600, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
