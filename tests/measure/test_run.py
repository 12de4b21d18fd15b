"""Variants side by side: the order of visits, what becomes of failures, and how answers are judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitlet.data.imageset import ImageSet
from vitlet.errors import InvalidValue, MeasurementFailed, NoImages, Unsupported
from vitlet.measure.cores import available_cpus, default_threads
from vitlet.measure.environment import environment
from vitlet.measure.run import evaluate, measure
from vitlet.measure.settings import MeasureSettings
from vitlet.measure.statistics import latency_summary

QUICK = MeasureSettings(threads=1, runs=6, visits=2, throughput_batch=0, quick=True)


def test_full_protocol(sham, log):
    """One variant, one throughput, all the runs and the warm-up that are promised."""
    (row,) = measure([sham(run_ms=0.2, load_ms=30, first_ms=20)], None, MeasureSettings(threads=1, throughput_batch=4))
    assert (row.engine, row.precision, row.status, row.reason) == ("sham", "fp32", "ok", "")
    latency = latency_summary(row)
    assert latency.n >= 662
    assert [len(visit) for visit in row.latency_samples_ms] == [latency.n // 2, latency.n - latency.n // 2]
    assert 0.2 <= latency.p50 <= latency.p90 <= latency.p99
    assert row.load_ms >= 30
    assert row.first_ms >= 20
    assert row.throughput_batch == 4
    assert 50 < row.throughput_images_per_s <= 5000
    assert row.environment == environment(1)
    assert not row.quick
    # Batches, and answers with them, are for the first visit alone.
    assert [entry["largest_batch"] for entry in log("close")] == [4, 1, 1]
    # Both visits ran for a second before the first timed run; the third only asks what the runtime did.
    first, second, third = (entry["runs"] for entry in log("close"))
    assert third == 1
    timed = latency.n // 2
    assert first - timed > 100
    assert second - timed > 100


def test_variants_are_visited_forwards_then_backwards_each_in_a_fresh_process(sham, log):
    seen = []
    artifacts = [sham("a"), sham("b"), sham("c")]
    rows = measure(artifacts, None, QUICK, seen.append)
    assert [entry["name"] for entry in log("open")] == ["a", "b", "c", "c", "b", "a"]
    assert len({entry["pid"] for entry in log("open")}) == 6
    assert all(entry["threads"] == 1 for entry in log("open"))
    assert [len(row.latency_samples_ms) for row in rows] == [2, 2, 2]
    assert [len(visit) for row in rows for visit in row.latency_samples_ms] == [3] * 6
    assert all(row.quick for row in rows)
    # Progress never falls, and ends at the end.
    assert [step.done for step in seen] == sorted(step.done for step in seen)
    assert (seen[-1].done, seen[-1].total) == (6, 6)
    assert any(step.detail == "sham fp32, visit 2 of 2: timing" for step in seen)


def test_what_a_runtime_did_is_asked_apart_and_costs_no_row(sham):
    """It raises, or takes its process with it: the timed figures stand, and a note says why nothing is known."""
    settings = replace(QUICK, explain=True, streams=2)
    seen = []
    rows = measure([sham("a"), sham("b", dies_explaining=True)], None, settings, seen.append)
    assert [row.status for row in rows] == ["ok", "ok"]
    assert all(row.latency_samples_ms for row in rows)
    assert rows[0].execution.notes == ("The runtime does not tell what it did (KeyError: 'no such counter').",)
    assert rows[0].streams == 2
    assert rows[0].streams_images_per_s > 0
    assert "killed by SIGSEGV" in rows[1].execution.notes[0]
    assert rows[1].streams is None
    assert (seen[-1].done, seen[-1].total) == (6, 6)
    assert [step.done for step in seen] == sorted(step.done for step in seen)


def test_streams_that_would_not_fit_are_not_tried(sham):
    settings = replace(QUICK, explain=False, streams=2)
    huge = replace(sham(), size_bytes=environment(1).memory_bytes)
    (row,) = measure([huge], None, settings)
    assert (row.status, row.streams_images_per_s) == ("ok", None)


def test_a_failing_variant_is_a_row_and_the_others_go_on(sham, log):
    artifacts = [sham("a"), sham("b", kill="SIGKILL"), sham("c", unsupported="needs Arm"), sham("d", scale=2.0)]
    a, b, c, d = measure(artifacts, None, QUICK)
    assert [row.status for row in (a, b, c, d)] == ["ok", "failed", "unsupported", "ok"]
    assert "was killed by SIGKILL" in b.reason
    assert c.reason == "needs Arm"
    assert (b.latency_samples_ms, b.peak_memory_bytes, b.logits_error) == ((), None, None)
    assert b.size_bytes > 0
    assert a.logits_error == 0
    assert d.logits_error == pytest.approx(1)
    # What failed once is not tried again.
    assert [entry["name"] for entry in log("open")] == ["a", "b", "c", "d", "d", "a"]


def test_without_its_baseline_nothing_is_judged(sham):
    bad, good = measure([sham("a", nan_after=0), sham("b")], None, QUICK)
    assert bad.status == "failed"
    assert "logits are NaN or infinite" in bad.reason
    assert (good.status, good.logits_error, good.agreement) == ("ok", None, None)


def test_a_variant_that_fails_later_keeps_no_half_result(sham, tmp_path):
    """It is the 10th run that fails: the timing of visit 1 goes well, its answers do not."""
    a, b = measure([sham("a"), sham("b", nan_after=9)], None, QUICK)
    assert a.status == "ok"
    assert (b.status, b.latency_samples_ms, b.load_ms) == ("failed", (), None)


def test_answers_are_judged_by_labels_and_by_the_baseline(sham, images):
    base, other = measure([sham("a"), sham("b", wrong_classes=[2, 3], scale=2.0)], images, QUICK)
    assert (base.top1, base.top5, base.agreement, base.logits_error) == (1.0, 1.0, 1.0, 0.0)
    assert (base.images, base.labelled_images, base.random_inputs) == (40, 30, 0)
    # 2 of 10 classes are answered wrong, by the class next to the right one.
    assert other.top1 == pytest.approx(0.8)
    assert other.top5 == 1.0
    assert other.agreement == pytest.approx(0.8)
    right, shifted = np.arange(10), np.array([0, 1, 3, 4, 4, 5, 6, 7, 8, 9])
    logits = [-np.abs(answers[:, None] - np.arange(10)) for answers in (right, shifted)]
    expected = np.linalg.norm(2.0 * logits[1] - logits[0]) / np.linalg.norm(logits[0])
    assert other.logits_error == pytest.approx(expected)


def test_another_baseline_or_given_logits(sham, images):
    artifacts = [sham("a", scale=2.0), sham("b")]
    first, second = measure(artifacts, images, QUICK, baseline=1)
    assert (first.logits_error, second.logits_error) == (pytest.approx(1), 0.0)
    zeros = -np.abs(np.zeros(40)[:, None] - np.arange(10)).astype(np.float32)
    first, second = measure(artifacts, images, QUICK, reference_logits=zeros)
    assert first.agreement == second.agreement == pytest.approx(0.1)


def test_without_images_random_inputs_are_told_apart(sham):
    (row,) = measure([sham()], None, replace(QUICK, random_inputs=9))
    assert (row.images, row.labelled_images, row.random_inputs) == (0, 0, 9)
    assert (row.top1, row.top5) == (None, None)
    assert (row.logits_error, row.agreement) == (0.0, 1.0)


def test_images_without_labels_have_no_accuracy(sham, images):
    unlabelled = replace(images, labels=(-1,) * 40)
    (row,) = measure([sham()], unlabelled, QUICK)
    assert (row.top1, row.top5, row.images, row.labelled_images) == (None, None, 40, 0)


def test_nothing_to_measure():
    assert measure([], None, QUICK) == ()


def test_evaluate_is_accuracy_alone(sham, images, log):
    seen = []
    row = evaluate(sham(wrong_classes=[1], largest_batch=1), images, 1, seen.append)
    assert (row.status, row.top1, row.top5) == ("ok", pytest.approx(0.9), 1.0)
    assert (row.images, row.labelled_images) == (40, 30)
    assert (row.latency_samples_ms, row.load_ms, row.first_ms, row.agreement) == ((), None, None, None)
    assert row.size_bytes > 0
    assert (seen[-1].stage, seen[-1].done, seen[-1].total) == ("evaluate", 40, 40)
    assert log("close")[0]["runs"] == 41  # one to see that it works, then each image once


def test_evaluate_against_given_logits(sham, images):
    reference = -np.abs(np.repeat(np.arange(10), 4)[:, None] - np.arange(10)).astype(np.float32)
    row = evaluate(sham(wrong_classes=[1]), images, 1, reference_logits=reference)
    assert row.agreement == pytest.approx(0.9)


def test_evaluate_raises_what_went_wrong(sham, images):
    with pytest.raises(MeasurementFailed, match="was killed by SIGILL"):
        evaluate(sham(kill="SIGILL"), images, 1)
    with pytest.raises(Unsupported, match="needs Arm"):
        evaluate(sham(unsupported="needs Arm"), images, 1)
    with pytest.raises(MeasurementFailed, match="no sign of life for 2 seconds"):
        evaluate(sham(hang="asleep"), images, 1, silence_limit_s=2)


def test_what_does_not_fit_is_refused_before_any_work(sham, images, log):
    artifact = sham()
    with pytest.raises(InvalidValue, match="baseline is 2; there are 1 artifacts, counted from 0"):
        measure([artifact], None, QUICK, baseline=2)
    with pytest.raises(InvalidValue, match="sham fp32 has 7 classes, its baseline has 10"):
        measure([artifact, replace(artifact, classes=7)], None, QUICK)
    with pytest.raises(InvalidValue, match="takes 16x8 pixels, the images were prepared as 8x8"):
        measure([replace(artifact, height=16)], images, QUICK)
    with pytest.raises(InvalidValue, match="an image has label 10, the model has 10 classes, counted from 0"):
        measure([artifact], replace(images, labels=(10,) * 40), QUICK)
    with pytest.raises(InvalidValue, match=r"reference_logits is \(3, 10\); it must be \(40, 10\)"):
        measure([artifact], images, QUICK, reference_logits=np.zeros((3, 10), np.float32))
    with pytest.raises(NoImages, match="the image set is empty"):
        evaluate(artifact, ImageSet(images.pixels_path, images.spec, (), ()), 1)
    assert log("open") == []


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"runs": 63}, "runs is 63; time at least 64, or measure quickly and have the record marked so"),
        ({"runs": 0, "quick": True}, "runs is 0; time at least 1"),
        ({"visits": 3}, "visits is 3; variants are visited A B B A, so give an even number"),
        ({"visits": 0}, "visits is 0"),
        ({"throughput_batch": -1}, r"throughput_batch is -1; it must be 0 \(none\) to 4096"),
        ({"random_inputs": 7}, "random_inputs is 7; it must be 8 to 4096"),
        ({"silence_limit_s": 0.0}, "silence_limit_s is 0.0; it must be above 0 seconds"),
        ({"threads": 100_000}, "threads is 100000; this process may use 1"),
        ({"threads": 0}, "threads is 0; this process may use 1"),
    ],
)
def test_settings_out_of_range(wrong, text):
    with pytest.raises(InvalidValue, match=text):
        MeasureSettings(**{"threads": 1, **wrong})


def test_settings_by_default():
    settings = MeasureSettings()
    assert settings.threads == default_threads() <= len(available_cpus())
    assert (settings.visit_count, settings.timing.runs, settings.timing.enough_runs) == (2, 32, 331)
    more = MeasureSettings(runs=1000, visits=4)
    assert (more.timing.runs, more.timing.enough_runs) == (250, 250)
    quick = MeasureSettings(quick=True)
    assert (quick.visit_count, quick.timing.runs, quick.timing.enough_runs) == (1, 16, 16)
