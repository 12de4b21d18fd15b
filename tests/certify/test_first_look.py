"""A first look rules out what is hopeless, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitlet.certify import first_look
from vitlet.certify.first_look import FirstLook
from vitlet.data.imageset import ImageSet
from vitlet.errors import MeasurementFailed
from vitlet.measure.budget import Budget
from vitlet.measure.settings import MeasureSettings
from vitlet.measure.verdict import Limits
from vitlet.records import Artifact, ImageSpec, Measurement, Precision

BASELINE = Artifact("torch", Precision("fp32"), Path("torch.bin"), 10_000_000, height=4, width=4, classes=10)
SMALL = replace(BASELINE, engine="native", precision=Precision("int8-dynamic"), size_bytes=3_000_000)
MS = {"torch": 80.0, "native": 10.0}
SPEC = ImageSpec(4, 4, 4)


@pytest.fixture
def look(monkeypatch, tmp_path):
    """At artifacts whose speed is given and whose answers are those of ``answers``: int [images], by engine."""

    def measure(artifacts, images, settings):
        assert (images, settings.quick, settings.throughput_batch) == (None, True, 0)
        (one,) = artifacts
        ms = MS[one.engine]
        if ms <= 0:
            return (Measurement(one.engine, str(one.precision), "failed", "it died"),)
        return (
            Measurement(
                one.engine, str(one.precision), "ok", latency_samples_ms=((ms,) * 12,), peak_memory_bytes=50_000_000
            ),
        )

    def look(limits: Limits = Limits(), answers: dict[str, np.ndarray] | None = None, labelled: bool = True):  # noqa: B008
        images = None
        if answers is not None:
            truth = answers["torch"]
            np.save(tmp_path / "pixels.npy", np.zeros((len(truth), 4, 4, 3), np.uint8))
            labels = tuple(truth.tolist()) if labelled else (-1,) * len(truth)
            images = ImageSet(tmp_path / "pixels.npy", SPEC, tuple(map(str, range(len(truth)))), labels)

        def evaluate(artifact, few, threads, *, reference_logits=None, logits_path=None):
            rows = [int(name) for name in few.names]
            logits = 5 * np.eye(10, dtype=np.float32)[answers[artifact.engine][rows]]
            np.save(logits_path, logits)
            return Measurement(artifact.engine, str(artifact.precision), "ok", images=len(rows), logits_error=0.1)

        monkeypatch.setattr(first_look, "measure", measure)
        monkeypatch.setattr(first_look, "evaluate", evaluate)
        return FirstLook(BASELINE, images, limits, MeasureSettings(1), tmp_path)

    return look


def test_times_and_memory(look):
    found = look()
    assert (found.ms, found.fits) == (80, True)
    seen = found.at(SMALL)
    assert (seen.ms, seen.memory_bytes, seen.row) == (10, 50_000_000, None)


@pytest.mark.parametrize(
    ("budget", "fits"),
    [
        (Budget(size_bytes=5_000_000), False),
        (Budget(size_bytes=10_000_000), True),
        (Budget(latency_ms=60), False),
        (Budget(latency_ms=65), True),  # within what a first look may be off
        (Budget(speedup=1.0), True),
        (Budget(speedup=2.0), False),
        (Budget(memory_bytes=30_000_000), False),
    ],
)
def test_whether_the_baseline_is_within_the_budget(look, budget, fits):
    """However it is, its time is known: all others are told by it."""
    found = look(Limits(budget=budget))
    assert (found.ms, found.fits) == (80, fits)


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        (Budget(size_bytes=2_000_000), "its file has 3 MB where 2 are allowed"),
        (Budget(latency_ms=7), "in a first look it took 10 ms for an image where 7 are allowed"),
        (Budget(speedup=11), "in a first look it was 8 times as fast where 11 times is asked for"),
        (Budget(memory_bytes=30_000_000), "in a first look it took 50 MB of memory where 30 are allowed"),
        (Budget(latency_ms=8, speedup=9, size_bytes=3_000_000, memory_bytes=40_000_000), ""),
    ],
)
def test_what_is_far_over_budget(look, budget, told):
    assert look(Limits(budget=budget)).excess(SMALL, 10 / 80, 50_000_000) == told


def test_a_baseline_that_cannot_run_ends_it(look, monkeypatch):
    monkeypatch.setitem(MS, "torch", 0.0)
    with pytest.raises(MeasurementFailed, match="torch fp32 could not be measured: it died"):
        look()


def test_a_variant_that_cannot_run_is_its_row(look, monkeypatch):
    found = look()
    monkeypatch.setitem(MS, "native", 0.0)
    assert found.at(SMALL).row.reason == "it died"


def wrong(truth: np.ndarray, share: float) -> np.ndarray:
    is_wrong = np.random.default_rng(0).random(len(truth)) < share
    return np.where(is_wrong, (truth + 1) % 10, truth)


@pytest.mark.parametrize(("share", "is_out"), [(0.0, False), (0.03, False), (0.5, True)])
@pytest.mark.parametrize("labelled", [True, False])
def test_only_hopeless_answers_rule_out(look, share, is_out, labelled):
    """A few of 37 answers may be chance, where 1 point may be lost or 2 % be changed."""
    truth = np.arange(297) % 10
    found = look(answers={"torch": truth, "native": wrong(truth, share)}, labelled=labelled)
    told = found.answers(SMALL)
    assert bool(told) == is_out
    if is_out:
        assert told.startswith("it lost " if labelled else "it changed ")


def test_an_eighth_of_the_images_is_asked_but_some_at_least(look):
    truth = np.arange(800) % 10
    found = look(answers={"torch": truth, "native": wrong(truth, 1.0)})
    assert found.answers(SMALL) == "it lost 100 and won 0 of 100 images"
    few = look(answers={"torch": truth[:20], "native": wrong(truth[:20], 1.0)})
    assert few.answers(SMALL) == "it lost 20 and won 0 of 20 images"


def test_nothing_to_ask(look):
    assert look().answers(SMALL) == ""
