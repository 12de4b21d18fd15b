"""The clock, without processes: when it stops warming up, when it stops timing."""

from __future__ import annotations

import gc
import time

import numpy as np
import pytest

from vitlet.errors import InvalidValue
from vitlet.measure.job import Inputs, Timing
from vitlet.measure.timing import is_enough, is_steady, throughput, time_runs, warm_up

IMAGES = [np.full((1, 3, 2, 2), i, np.float32) for i in range(3)]


@pytest.mark.parametrize(
    ("runs", "elapsed_s", "enough"),
    [
        (31, 1.6, False),  # too few runs, however long
        (32, 1.4, False),  # enough runs for p90, but there is time for more
        (32, 1.5, True),
        (331, 0.1, True),  # enough for p99
        (330, 0.1, False),
        (5, 60.0, True),  # a very slow model
        (31, 59.0, False),
    ],
)
def test_when_timing_stops(runs, elapsed_s, enough):
    assert is_enough(runs, elapsed_s, Timing()) is enough


def test_a_model_of_560_ms_ends_within_a_minute():
    """64 runs in two visits with 10 runs and a first one each; the bound is for one file, not one visit."""
    timing = Timing()
    seconds = 2 * 0.56 * (1 + timing.warm_up_runs + timing.runs)
    assert seconds < 60
    assert timing.warm_up_runs * 0.56 < timing.warm_up_longest_s


def test_runs_are_timed_one_by_one_over_all_images():
    seen = []

    def run(image):
        seen.append(int(image[0, 0, 0, 0]))
        time.sleep(0.002 * (1 + seen[-1]))

    begin = time.perf_counter()
    samples = time_runs(run, IMAGES, Timing(runs=15, enough_runs=15, seconds=0.0))
    elapsed_ms = 1000 * (time.perf_counter() - begin)
    assert seen == [0, 1, 2] * 5
    assert all(sample >= 2 * (1 + image) for sample, image in zip(samples, seen, strict=True))
    assert sum(samples) < elapsed_ms


def test_garbage_collection_waits_and_comes_back():
    states = []
    time_runs(lambda _: states.append(gc.isenabled()), IMAGES, Timing(runs=2, enough_runs=2, seconds=0.0))
    assert states == [False, False]
    assert gc.isenabled()

    def fail(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        time_runs(fail, IMAGES, Timing())
    assert gc.isenabled()
    gc.disable()
    try:
        time_runs(lambda _: None, IMAGES, Timing(runs=2, enough_runs=2, seconds=0.0))
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_steady():
    assert is_steady([10.0] * 10)
    assert not is_steady([10.0] * 9)  # two windows of 5 are the least
    assert not is_steady([20.0] * 5 + [10.0] * 5)
    assert is_steady([20.0] * 5 + [10.0] * 10)
    assert is_steady([10.0, 10.1] * 50)
    assert not is_steady(list(np.geomspace(100, 50, 40)))


def test_warm_up_goes_on_until_steady():
    delays = iter([0.04] * 6 + [0.01] * 1000)
    runs = warm_up(lambda _: time.sleep(next(delays)), IMAGES, Timing(warm_up_runs=10, warm_up_s=0.0))
    assert 11 <= runs < 500  # 10 would be 6 slow ones and 4 fast ones


def test_warm_up_lasts_as_long_as_it_must_and_no_longer():
    begin = time.perf_counter()
    warm_up(lambda _: None, IMAGES, Timing(warm_up_runs=1, warm_up_s=0.2))
    assert time.perf_counter() - begin >= 0.2
    slow = warm_up(lambda _: time.sleep(0.1), IMAGES, Timing(warm_up_s=0.0, warm_up_longest_s=0.25))
    assert slow <= 3  # far from the 10 runs that a faster model gets


def test_throughput_stacks_and_repeats_images():
    shapes = []

    def run(images):
        shapes.append(images.shape)
        assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 0, 1]
        time.sleep(0.02)

    assert 30 < throughput(run, IMAGES, 5) <= 250
    assert set(shapes) == {(5, 3, 2, 2)}
    assert len(shapes) >= 1 + 5  # a second of them, after one to warm up


def test_what_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(InvalidValue, match="at least 1 run and 1 warm-up run, not 0, 10"):
        Timing(runs=0)
    with pytest.raises(InvalidValue, match="pixels and their ImageSpec go together"):
        Inputs(pixels_path=tmp_path / "x.npy")
    with pytest.raises(InvalidValue, match="random_count is 0; measuring needs at least 1 input"):
        Inputs(random_count=0)
