"""Percentiles, intervals and noise, against scipy, and against what really happens when they are used."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vitlet.errors import InvalidValue
from vitlet.measure import statistics
from vitlet.measure.statistics import ASSUMED_NOISE, latency_claim, latency_summary, noise_floor, speedup
from vitlet.records import Measurement


def measured(*visits) -> Measurement:
    return Measurement("sham", "fp32", "ok", latency_samples_ms=tuple(tuple(map(float, visit)) for visit in visits))


def test_percentiles_are_numpys_over_all_visits():
    samples = np.random.default_rng(0).gamma(5, 2, size=(2, 331))
    found = latency_summary(measured(*samples))
    assert (found.p50, found.p90, found.p99) == tuple(np.percentile(samples.ravel(), (50, 90, 99)))
    assert found.n == 662


def test_percentiles_are_told_only_from_enough_samples():
    assert latency_summary(measured()) is None
    assert latency_summary(measured([3.0])).p50 == 3.0
    assert latency_summary(measured(range(1, 64))).p90 is None
    assert latency_summary(measured(range(1, 65))).p90 is not None
    assert latency_summary(measured(range(1, 662))).p99 is None
    assert latency_summary(measured(range(1, 663))).p99 is not None


@pytest.mark.parametrize(("percentile", "minimum"), [(0.90, 64), (0.99, 662)])
def test_the_minimum_is_that_of_mlperf(percentile, minimum):
    """The fewest samples of which, if one may be above, 99 % confidence is reached: P(at most 1) <= 1 %."""
    counts = np.arange(2, 1000)
    enough = stats.binom.cdf(1, counts, 1 - percentile) <= 0.01
    assert counts[enough][0] == minimum


def test_students_t():
    for freedom in (1, 2, 5, 20, 21, 30, 100, 1000):
        assert statistics._t_975(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-3)


def test_speedup_is_the_mean_of_pairs_so_steady_drift_cancels():
    """A machine that slows down by 10 % from visit to visit, visited A B B A: twice as fast stays twice."""
    baseline = measured([10.0] * 32, [13.31] * 32)
    variant = measured([5.5] * 32, [6.05] * 32)
    assert speedup(baseline, variant, noise=0.0).ratio == pytest.approx(2.0)


def test_interval_holds_both_pairs_and_the_noise():
    baseline = measured([10.0] * 32, [10.0] * 32)
    variant = measured([5.0] * 32, [4.0] * 32)
    found = speedup(baseline, variant, noise=0.0)
    assert (found.low, found.high) == (pytest.approx(2.0), pytest.approx(2.5))
    assert found.ratio == pytest.approx(5**0.5)
    wide = speedup(baseline, variant, noise=0.5)
    assert (wide.low, wide.high) == (pytest.approx(5**0.5 / 1.5), pytest.approx(5**0.5 * 1.5))
    once = speedup(measured([10.0] * 32), measured([5.0] * 32))
    assert (once.low, once.high) == (pytest.approx(2 / 1.1), pytest.approx(2 * 1.1))


def test_a_latency_is_claimed_with_an_interval_no_narrower_than_noise():
    baseline, variant = measured([10.0] * 32, [10.0] * 32), measured([5.0] * 32, [4.0] * 32)
    found = latency_claim(variant, baseline, noise=0.0)
    assert (found.low_ms, found.high_ms) == (pytest.approx(4.0), pytest.approx(5.0))
    assert found.ms == pytest.approx(20**0.5)
    assert found.speedup == speedup(baseline, variant, noise=0.0)
    wide = latency_claim(variant, noise=0.5)
    assert (wide.low_ms, wide.high_ms) == (pytest.approx(20**0.5 / 1.5), pytest.approx(20**0.5 * 1.5))
    assert (wide.noise, wide.speedup) == (0.5, None)
    assert latency_claim(measured()) is None
    once = latency_claim(measured([5.0] * 32))
    assert (once.noise, once.low_ms) == (ASSUMED_NOISE, pytest.approx(5 / (1 + ASSUMED_NOISE)))


def test_interval_of_one_pair_is_the_bootstrap_of_scipy():
    generator = np.random.default_rng(1)
    a, b = generator.gamma(20, 1, 200), generator.gamma(20, 0.5, 200)
    found = speedup(measured(a), measured(b), noise=0.0)
    theirs = stats.bootstrap(
        (a, b),
        lambda x, y, axis: np.median(x, axis=axis) / np.median(y, axis=axis),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert found.low == pytest.approx(theirs.low, rel=0.02)
    assert found.high == pytest.approx(theirs.high, rel=0.02)


def test_the_same_seed_gives_the_same_interval():
    generator = np.random.default_rng(1)
    a, b = measured(*generator.gamma(20, 1, (2, 64))), measured(*generator.gamma(20, 1, (2, 64)))
    assert speedup(a, b, noise=0.0) == speedup(a, b, noise=0.0)
    assert speedup(a, b, noise=0.0) != speedup(a, b, noise=0.0, seed=1)


def test_speedup_needs_both_timed():
    with pytest.raises(InvalidValue, match="sham fp32 cannot be compared: it or its baseline was not timed"):
        speedup(measured(), measured([1.0]))


def test_faster_and_slower_need_more_than_noise():
    base = measured([10.0] * 32, [10.0] * 32)
    for factor, faster, slower in ((0.9, True, False), (0.97, False, False), (1.03, False, False), (1.2, False, True)):
        found = speedup(base, measured(*[[10.0 * factor] * 32] * 2), noise=0.05)
        assert (found.is_faster, found.is_slower) == (faster, slower)


def test_noise_floor_by_hand():
    rows = [measured([10.0], [11.0]), measured([5.0], [5.0]), measured([7.0])]
    # One degree of freedom a pair; the variance of a pair is half its squared difference.
    sigma = np.sqrt((np.log(1.1) ** 2 / 2) / 2)
    assert noise_floor(rows) == pytest.approx(np.exp(stats.t.ppf(0.975, 2) * sigma) - 1, rel=1e-3)
    assert noise_floor([measured([7.0])]) is None
    assert noise_floor([]) is None


@pytest.mark.parametrize("variants", [2, 5])
def test_two_measurements_of_one_file_differ_by_less_than_they_say(variants):
    """A/A: five per cent of claims may be wrong, on a machine whose processes differ by 3 % (and drift)."""
    generator = np.random.default_rng(7)
    wrong = 0
    trials = 150
    for _ in range(trials):
        order = [*range(variants), *reversed(range(variants))]
        drift = np.cumsum(generator.normal(0, 0.005, len(order)))
        visits = [[] for _ in range(variants)]
        for place, who in enumerate(order):
            level = 10 * np.exp(drift[place] + generator.normal(0, 0.03))
            visits[who].append(level * generator.gamma(100, 0.01, 32))
        rows = [measured(*both) for both in visits]
        found = speedup(rows[0], rows[-1], noise=noise_floor(rows))
        wrong += found.is_faster or found.is_slower
    assert wrong / trials <= 0.05
