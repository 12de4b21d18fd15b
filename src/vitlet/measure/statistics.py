"""From raw samples to numbers that may be quoted, and how far each can be trusted.

A percentile is told only from the number of samples that MLPerf Inference's early stopping asks
for at 99 % confidence ("Inference: early stopping", MLPerf rules): 64 for p90, 662 for p99. Two
processes that run the same file differ more than the samples of one process say, so an interval
rests on repeated visits and not on the samples alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitlet.errors import InvalidValue
from vitlet.records import Measurement

MINIMUM_FOR_P90 = 64
MINIMUM_FOR_P99 = 662

#: Where no variant was visited twice, two runs of the same file are taken to differ by up to this.
ASSUMED_NOISE = 0.10

_REPLICATES = 2000

#: 97.5 % quantile of Student's t for 1, 2, ... degrees of freedom.
_T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one image over ``n`` timed runs; a percentile is ``None`` below the samples it needs."""

    p50: float
    p90: float | None
    p99: float | None
    n: int


@dataclass(frozen=True)
class Speedup:
    """The baseline's time over the variant's (above 1 is faster), with its 95 % interval."""

    ratio: float
    low: float
    high: float

    @property
    def is_faster(self) -> bool:
        """Faster by more than noise can explain."""
        return self.low > 1

    @property
    def is_slower(self) -> bool:
        """Slower by more than noise can explain."""
        return self.high < 1


@dataclass(frozen=True)
class LatencyClaim:
    """Milliseconds for one image (the geometric mean of the medians of all visits), with the 95 % interval, and what
    that is against the baseline, if there is one; neither interval is narrower than ``noise``, by which two
    measurements of one file differ here (0.04 is 4 %)."""

    ms: float
    low_ms: float
    high_ms: float
    noise: float
    speedup: Speedup | None = None

    def __post_init__(self) -> None:
        if not 0 < self.low_ms <= self.ms <= self.high_ms or not self.noise >= 0:
            raise InvalidValue(f"a latency of {self.ms} ms within {self.low_ms} to {self.high_ms} ms cannot be claimed")


def latency_summary(measurement: Measurement) -> Latency | None:
    """Percentiles over the samples of all visits (linear interpolation); ``None`` if none was timed."""
    samples = [sample for visit in measurement.latency_samples_ms for sample in visit]
    if not samples:
        return None
    n = len(samples)
    p50, p90, p99 = (float(found) for found in np.percentile(samples, (50, 90, 99)))
    return Latency(p50, p90 if n >= MINIMUM_FOR_P90 else None, p99 if n >= MINIMUM_FOR_P99 else None, n)


def noise_floor(measurements: Sequence[Measurement]) -> float | None:
    """By how much two measurements of one and the same file may differ here: 0.04 is 4 %.

    It is the A/A test that repeated visits contain: the 95 % half-width of the ratio of two means
    of log medians, with the variance between visits to the same variant, pooled over all
    variants (Student's t). ``None`` if no variant was visited twice.
    """
    medians = [np.log(_medians(m)) for m in measurements if len(m.latency_samples_ms) > 1]
    if not medians:
        return None
    freedom = sum(len(visits) - 1 for visits in medians)
    variance = sum(float(np.sum((visits - visits.mean()) ** 2)) for visits in medians) / freedom
    visits_each = min(len(visits) for visits in medians)
    return math.exp(_t_975(freedom) * math.sqrt(2 * variance / visits_each)) - 1


def speedup(baseline: Measurement, variant: Measurement, *, noise: float | None = None, seed: int = 0) -> Speedup:
    """How many times as fast as the baseline, by the medians of visits that were made in pairs.

    The ratio is the geometric mean over the pairs, in which a machine that drifts steadily cancels
    out (visits go A B B A). The interval is a seeded two-level bootstrap (pairs, then samples in
    each visit; Davison and Hinkley, "Bootstrap Methods", 3.8), and no narrower than ``noise``
    (``noise_floor``; ``ASSUMED_NOISE`` if ``None``).

    Raises:
        InvalidValue: one of the two was not timed.
    """
    pairs = list(zip(baseline.latency_samples_ms, variant.latency_samples_ms, strict=False))
    if not pairs:
        raise InvalidValue(f"{variant.engine} {variant.precision} cannot be compared: it or its baseline was not timed")
    generator = np.random.default_rng(seed)
    logs = np.log(_medians(baseline)[: len(pairs)] / _medians(variant)[: len(pairs)])
    resampled = np.stack([_resampled(a, generator) - _resampled(b, generator) for a, b in pairs])
    chosen = generator.integers(len(pairs), size=resampled.shape)
    replicates = np.take_along_axis(resampled, chosen, axis=0).mean(axis=0)
    low, high = np.percentile(replicates, (2.5, 97.5))
    floor = math.log1p(ASSUMED_NOISE if noise is None else noise)
    ratio = float(logs.mean())
    return Speedup(math.exp(ratio), math.exp(min(low, ratio - floor)), math.exp(max(high, ratio + floor)))


def latency_claim(
    variant: Measurement, baseline: Measurement | None = None, *, noise: float | None = None, seed: int = 0
) -> LatencyClaim | None:
    """What can be said of a variant's latency on this machine, with intervals made as those of ``speedup``; ``None`` if
    it was not timed.
    """
    if not variant.latency_samples_ms:
        return None
    floor = ASSUMED_NOISE if noise is None else noise
    generator = np.random.default_rng(seed)
    resampled = np.stack([_resampled(visit, generator) for visit in variant.latency_samples_ms])
    chosen = generator.integers(len(resampled), size=resampled.shape)
    low, high = np.percentile(np.take_along_axis(resampled, chosen, axis=0).mean(axis=0), (2.5, 97.5))
    log_ms = float(np.log(_medians(variant)).mean())
    return LatencyClaim(
        math.exp(log_ms),
        math.exp(min(low, log_ms - math.log1p(floor))),
        math.exp(max(high, log_ms + math.log1p(floor))),
        floor,
        None if baseline is None or not baseline.latency_samples_ms else speedup(baseline, variant, noise=noise),
    )


def _medians(measurement: Measurement) -> np.ndarray:
    return np.array([float(np.median(visit)) for visit in measurement.latency_samples_ms])


def _resampled(samples: Sequence[float], generator: np.random.Generator) -> np.ndarray:
    """Log medians of ``_REPLICATES`` samples drawn with replacement: float64 [replicates]."""
    values = np.asarray(samples)
    return np.log(np.median(generator.choice(values, size=(_REPLICATES, len(values))), axis=1))


def _t_975(freedom: int) -> float:
    # Beyond the table the quantile falls slowly from 2.086 to 1.960; the expansion is good to 0.001.
    return _T_975[freedom - 1] if freedom <= len(_T_975) else 1.960 + 2.372 / freedom + 2.82 / freedom**2
