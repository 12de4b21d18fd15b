"""What every engine promises, in every precision, held to the same rules."""

from __future__ import annotations

import os
import time
import zipfile

import numpy as np
import pytest
import torch

from vitlet.engines import Engine, engine, engines
from vitlet.errors import InvalidValue, Unsupported
from vitlet.records import Precision

FP32 = Precision("fp32")


def test_engines_keep_the_protocol():
    assert list(engines())[:4] == ["torch", "torchscript", "mobile", "lite"]
    for name, found in engines().items():
        assert isinstance(found, Engine)
        assert found.name == name
        assert found.precisions()
        availability = found.available()
        assert availability.ok or availability.reason


def test_every_variant_of_the_tutorial_can_be_had_with_the_pinned_torch(exported):
    if not torch.__version__.startswith("2.12.1") or "x86" not in torch.backends.quantized.supported_engines:
        pytest.skip(f"PyTorch {torch.__version__} on this machine is not the pinned one on x86")
    for found in engines().values():
        if found.name in ("torch", "torchscript", "mobile", "lite"):
            for precision in found.precisions():
                assert exported(found, precision).size_bytes > 0


def test_artifact_says_what_was_written(engine, precision, exported, distilled, calibration_for):
    artifact = exported(engine, precision)
    assert (artifact.engine, artifact.precision) == (engine.name, precision)
    assert artifact.size_bytes == sum(file.stat().st_size for file in artifact.files)
    assert (artifact.height, artifact.width, artifact.classes) == (32, 32, 10)
    assert artifact.path.name.startswith(f"distilled-{engine.name}-{precision}.")
    assert artifact.note == (calibration_for(distilled).note if precision.is_calibrated else "")


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("torchscript", "qnnpack"),
        ("torchscript", "x86"),
        ("torchscript", "onednn"),
        ("mobile", "qnnpack"),
        ("lite", "qnnpack"),
    ],
)
def test_int8_is_int8(name, kernels, exported):
    """About a quarter of fp32's bytes: the weights, and not only their names, are int8."""
    artifact = exported(engine(name), Precision("int8-dynamic", kernels))
    whole = exported(engine(name), FP32).size_bytes
    assert 0.24 < artifact.size_bytes / whole < 0.30
    with zipfile.ZipFile(artifact.path) as archive:
        program = b"".join(archive.read(n) for n in archive.namelist() if "/code/" in n or n.endswith("bytecode.pkl"))
    assert b"linear_dynamic" in program
    assert b"aten::linear" not in program
    assert b"torch.linear" not in program


@pytest.mark.parametrize("name", ["torch", "torchscript", "mobile", "lite"])
def test_fp32_is_not_quantized(name, exported, distilled):
    weights = sum(parameter.numel() for parameter in distilled.module.parameters())
    # TorchScript keeps one of several equal constants, here the biases that are all zero.
    assert 0.98 < exported(engine(name), FP32).size_bytes / (4 * weights) < 1.02


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (np.zeros((1, 3, 32, 31), np.float32), r"\[1, 3, 32, 31\]; the model takes \[1 or more, 3, 32, 32\]"),
        (np.zeros((3, 32, 32), np.float32), r"\[3, 32, 32\]; the model takes"),
        (np.zeros((0, 3, 32, 32), np.float32), r"\[0, 3, 32, 32\]; the model takes"),
        (np.zeros((1, 32, 32, 3), np.float32), r"\[1, 32, 32, 3\]; the model takes"),
        (np.zeros((1, 3, 32, 32, 1), np.float32), r"\[1, 3, 32, 32, 1\]; the model takes"),
        (np.zeros((), np.float32), r"\[\]; the model takes"),
        (np.zeros((1, 3, 32, 32), np.float64), "float64; the model takes float32"),
        (np.zeros((1, 3, 32, 32), np.uint8), "uint8; the model takes float32"),
        (np.zeros((1, 3, 32, 32), ">f4"), ">f4; the model takes float32"),
        (torch.zeros(1, 3, 32, 32), "Tensor; give a float32 numpy array"),
    ],
)
def test_wrong_images_are_refused(images, complaint):
    """By the one function that all sessions call; the next test shows that they do."""
    from vitlet.engines.inputs import checked_images

    with pytest.raises(InvalidValue, match=complaint):
        checked_images(images, height=32, width=32)


def test_session_rules(engine, precision, exported, distilled, images_for):
    """Refusals, unusual memory layouts, logits that stay, threads put back, and an end."""
    session = engine.open(exported(engine, precision), threads=1)
    threads = torch.get_num_threads()
    for wrong in (np.zeros((1, 3, 16, 16), np.float32), np.zeros((1, 3, 32, 32))):
        with pytest.raises(InvalidValue, match="the model takes"):
            session.run(wrong)

    images = images_for(distilled, 2)
    first = session.run(images)
    kept = first.copy()
    assert (first.dtype, first.shape, first.flags.c_contiguous) == (np.float32, (2, 10), True)
    readonly = images.copy()
    readonly.flags.writeable = False
    for layout in (readonly, np.asfortranarray(images), np.repeat(images, 2, axis=3)[..., ::2]):
        np.testing.assert_array_equal(session.run(layout), kept)
    session.run(images_for(distilled, 2, seed=9))
    np.testing.assert_array_equal(first, kept)
    first[:] = 0
    np.testing.assert_array_equal(session.run(images), kept)

    assert torch.get_num_threads() == threads
    session.close()
    with pytest.raises(InvalidValue, match="was closed; open the artifact again"):
        session.run(images)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core")
def test_one_thread_is_one_thread(engine, precision, exported, distilled, images_for):
    """Processor time spent by any other thread would be a second thread at work."""
    session = engine.open(exported(engine, precision), threads=1)
    images = images_for(distilled, 16)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        session.run(images)
        time.sleep(0.05)  # threads of earlier work spin for a while before they sleep
        own, whole = time.thread_time(), time.process_time()
        while time.thread_time() - own < 0.1:
            session.run(images)
        own, whole = time.thread_time() - own, time.process_time() - whole
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert whole < 1.2 * own


@pytest.mark.parametrize("threads", [0, -1, 1025])
def test_silly_threads_are_refused(engine, precision, exported, threads):
    with pytest.raises(InvalidValue, match=f"threads is {threads}; it must be 1 to 1024"):
        engine.open(exported(engine, precision), threads=threads)


def test_caller_is_left_alone(engine, precision, distilled, exported, changed_by_export, state_of_caller, difference):
    """By the export, and by opening what it wrote with as many threads as this process does not use."""
    artifact = exported(engine, precision)
    assert changed_by_export[engine.name, precision] == []
    before = state_of_caller(distilled.module)
    engine.open(artifact, threads=2).close()
    assert difference(before, state_of_caller(distilled.module)) == []


def test_unknown_precision_is_refused(distilled, tmp_path):
    with pytest.raises(Unsupported, match="engine 'torch' has no int8-dynamic-x86; it has fp32"):
        engine("torch").export(distilled, Precision("int8-dynamic", "x86"), tmp_path / "model")
    with pytest.raises(Unsupported, match="engine 'lite' has no int8-dynamic; it has fp32, int8-dynamic-qnnpack"):
        engine("lite").export(distilled, Precision("int8-dynamic"), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidValue, match="no engine is called 'tflite'; there are: torch, torchscript, mobile, lite"):
        engine("tflite")
