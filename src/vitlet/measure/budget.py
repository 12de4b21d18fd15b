"""What a variant may take at most on this machine, and whether one that was measured keeps to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

from vitlet.errors import InvalidValue
from vitlet.measure.statistics import ASSUMED_NOISE, Speedup, latency_summary
from vitlet.records import Measurement


@dataclass(frozen=True)
class Budget:
    """``None`` is no limit. ``latency_ms`` is the median for one image, ``memory_bytes`` the peak while running;
    ``speedup`` is how many times as fast as the uncompressed model a variant must be at least.

    Raises:
        InvalidValue: a limit is not above 0.
    """

    latency_ms: float | None = None
    speedup: float | None = None
    size_bytes: int | None = None
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, limit in ((f.name, getattr(self, f.name)) for f in fields(self)):
            if limit is not None and not limit > 0:
                raise InvalidValue(f"the limit {name} is {limit}; it must be above 0")


NO_BUDGET = Budget()


@dataclass(frozen=True)
class Excess:
    """By how much a variant is over budget: ``ratio`` is above 1, ``told`` a clause that says it."""

    ratio: float
    told: str


def excess(
    measurement: Measurement, speed: Speedup | None, noise: float | None, budget: Budget, *, is_baseline: bool = False
) -> Excess | None:
    """What a measured variant takes too much of, the worst first; ``None`` if it is surely within the budget.

    Of a latency the upper end counts and of a speed-up the lower, so that another measurement of the same file would
    say the same: ``noise`` is by how much two of them may differ (``ASSUMED_NOISE`` if ``None``). The speed-up of the
    baseline itself is 1; of another without a ``speed`` it is not known.
    """
    least = 1.0 if is_baseline else None if speed is None else speed.low
    found = sorted(_over(measurement, least, ASSUMED_NOISE if noise is None else noise, budget), key=lambda e: -e.ratio)
    if not found:
        return None
    return Excess(found[0].ratio, " and ".join(one.told for one in found))


def _over(m: Measurement, speedup: float | None, noise: float, budget: Budget) -> Iterator[Excess]:
    latency = latency_summary(m)
    if budget.latency_ms is not None and latency is not None:
        longest = latency.p50 * (1 + noise)
        if longest > budget.latency_ms:
            yield Excess(
                longest / budget.latency_ms,
                f"it may take {longest:.3g} ms for an image where {budget.latency_ms:g} ms are allowed",
            )
    if budget.speedup is not None and speedup is None:
        yield Excess(math.inf, "how fast it is beside the original is not known")
    elif budget.speedup is not None and speedup is not None and speedup < budget.speedup:
        yield Excess(
            budget.speedup / speedup,
            f"it may be only {speedup:.3g} times as fast as the original where {budget.speedup:g} times is asked for",
        )
    if budget.size_bytes is not None:
        yield from _too_large("its file has {} MB", m.size_bytes, budget.size_bytes)
    if budget.memory_bytes is not None:
        yield from _too_large("it takes {} MB of memory", m.peak_memory_bytes, budget.memory_bytes)


def _too_large(told: str, size_bytes: int | None, limit: int) -> Iterator[Excess]:
    if size_bytes is None:
        yield Excess(math.inf, f"{told.format('an unknown number of')} where {limit / 1e6:g} are allowed")
    elif size_bytes > limit:
        yield Excess(size_bytes / limit, f"{told.format(f'{size_bytes / 1e6:.3g}')} where {limit / 1e6:g} are allowed")
