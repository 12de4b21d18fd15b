"""What a compression looks into by itself, for its report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vitlet
from vitlet.data.imageset import ImageSet
from vitlet.measure.settings import MeasureSettings
from vitlet.pipeline.inspecting import looked_into
from vitlet.pipeline.measuring import Measured
from vitlet.records import Artifact, Measurement, Precision, no_progress


@pytest.fixture
def job(tmp_path: Path) -> Measured:
    """A model in PyTorch that takes a millisecond for an image, and forty images."""
    spec = vitlet.load("bundled").image_spec
    pixels = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 3)).astype(np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    images = ImageSet(tmp_path / "pixels.npy", spec, tuple(map(str, range(40))), (-1,) * 40)
    return Measured([], [Measurement("torch", "fp32", "ok", latency_samples_ms=((1.0,) * 8,))], images)


def chosen(precision: str) -> Artifact:
    return Artifact("onnxruntime", Precision(precision), Path("model.onnx"), 1, 28, 28, 10)


def test_every_operation_of_an_int8_variant(job: Measured) -> None:
    model, settings = vitlet.load("bundled"), MeasureSettings(1)
    found = looked_into(model, chosen("int8-dynamic"), job, settings, no_progress)
    assert found is not None
    assert len(found.operations) == 39
    assert max(one.cost.kl_divergence for one in found.operations) > 0


def test_nothing_where_there_is_nothing_to_see_or_no_time(job: Measured) -> None:
    model, settings, int8 = vitlet.load("bundled"), MeasureSettings(1), chosen("int8-static")
    slow = replace(job, measured=[replace(job.measured[0], latency_samples_ms=((60_000.0,) * 8,))])
    for classifier, variant, measured, how in (
        (model, chosen("fp32"), job, settings),
        (replace(model, random_weights=True), int8, job, settings),
        (model, int8, replace(job, images=None), settings),
        (model, int8, job, replace(settings, quick=True)),
        (model, int8, slow, settings),
    ):
        assert looked_into(classifier, variant, measured, how, no_progress) is None
