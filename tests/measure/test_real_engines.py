"""From a model to a comparison with the real runtimes, on a ViT of the bundled model's size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitlet.data.imageset import ImageSet
from vitlet.engines import engine
from vitlet.measure.comparison import compare
from vitlet.measure.run import evaluate, measure
from vitlet.measure.settings import MeasureSettings
from vitlet.models.vit import build_vit
from vitlet.records import Artifact, Classifier, ImageSpec, Precision, VitArchitecture

SPEC = ImageSpec(28, 28, (28, 28))
ARCHITECTURE = VitArchitecture(28, 28, 4, 96, 6, 3, 384, 10, distillation_token=True)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(
        build_vit(ARCHITECTURE, seed=1), ARCHITECTURE, SPEC, tuple("abcdefghij"), "small", "test", random_weights=True
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    path = tmp_path_factory.mktemp("images") / "pixels.npy"
    np.save(path, np.random.default_rng(0).integers(256, size=(24, 28, 28, 3), dtype=np.uint8))
    return ImageSet(path, SPEC, tuple(map(str, range(24))), tuple(i % 10 for i in range(24)))


@pytest.fixture(scope="module")
def artifacts(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    folder = tmp_path_factory.mktemp("artifacts")
    runtime = engine("torchscript")
    # Some kernels are not in every build of PyTorch; those of x86 machines are not on Arm.
    int8 = next(p for p in runtime.precisions() if p.name == "int8-dynamic" and runtime.available().ok)
    chosen = [("torch", Precision("fp32")), ("torchscript", Precision("fp32")), ("torchscript", int8)]
    return [engine(name).export(classifier, precision, folder / f"{name}-{precision}") for name, precision in chosen]


def test_a_model_is_measured_as_what_it_is(classifier, artifacts, images):
    settings = MeasureSettings(threads=1, runs=6, throughput_batch=4, quick=True)
    with torch.inference_mode():
        exact = np.concatenate([classifier.module(torch.from_numpy(one)).numpy() for one in images.batches(1)])
    rows = measure(artifacts, images, settings, reference_logits=exact)
    assert [(row.status, row.reason) for row in rows] == [("ok", "")] * 3
    torch_fp32, scripted, int8 = rows
    # The file gives, in a process that never saw the model, what the model gives here.
    assert torch_fp32.logits_error < 1e-5
    assert scripted.logits_error < 1e-5
    assert torch_fp32.agreement == scripted.agreement == 1
    assert 1e-4 < int8.logits_error < 0.3
    expected_top1 = np.mean(exact.argmax(axis=1) == np.array(images.labels))
    assert torch_fp32.top1 == pytest.approx(expected_top1)
    assert evaluate(artifacts[0], images, 1).top1 == torch_fp32.top1
    weights = sum(p.numel() for p in classifier.module.parameters()) * 4
    assert torch_fp32.size_bytes >= weights > int8.size_bytes
    for row in rows:
        assert row.peak_memory_bytes > row.size_bytes / 2
        assert row.first_ms > 0
        assert row.load_ms > 0
        assert row.throughput_images_per_s > 0
        assert all(0.05 < sample < 10_000 for visit in row.latency_samples_ms for sample in visit)
    found = compare(rows, answers_matter=False)
    assert found.baseline == 0
    assert found.sentences[-2:] == (
        "Only speed counted: the weights are random, so the answers mean nothing.",
        "This was measured quickly: measure in full before relying on it.",
    )


def test_a_damaged_file_is_a_row(artifacts, images, tmp_path):
    damaged = tmp_path / artifacts[1].path.name
    damaged.write_bytes(artifacts[1].path.read_bytes()[:1000])
    settings = MeasureSettings(threads=1, runs=2, throughput_batch=0, quick=True)
    good, bad = measure([artifacts[0], replace(artifacts[1], path=damaged)], images, settings)
    assert good.status == "ok"
    assert bad.status == "failed"
    assert bad.reason.startswith("torchscript fp32: ")
    assert str(damaged) in bad.reason
