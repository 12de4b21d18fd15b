"""From values to pixels, and the round values to mark on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Maps ``low`` to ``start`` and ``high`` to ``end`` (pixels), straight or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 7) -> list[float]:
        """Round values within, at most ``most`` of them; 1, 2, 5, 10, ... on a logarithmic scale."""
        if not self.logarithmic:
            return _round_steps(self.low, self.high, most)
        for mantissas in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [m * 10.0**e for e in decades for m in mantissas if self.low <= m * 10.0**e <= self.high]
            if len(found) <= most:
                return found
        return found[:: math.ceil(len(found) / most)]


def latency_scale(values: Sequence[float], start: float, end: float) -> Scale:
    """For positive values: logarithmic where the largest is over 4 times the smallest, else from zero."""
    low, high = min(values), max(values)
    if high > 4 * low:
        return Scale(low / 1.25, high * 1.25, start, end, logarithmic=True)
    return Scale(0.0, high * 1.2, start, end)


def share_scale(values: Sequence[float], start: float, end: float, least: float) -> Scale:
    """For shares in per cent: the range of the values with room around it, at least ``least`` wide.

    It leaves 0 to 100 only by the room that a point at the edge needs.
    """
    low, high = min(values), max(values)
    missing = max(0.0, least - (high - low)) / 2
    low, high = low - missing, high + missing
    excess = max(0.0, high - 100.0) - max(0.0, -low)
    low, high = low - excess, high - excess
    room = 0.12 * (high - low)
    return Scale(low - room, high + room, start, end)


def _round_steps(low: float, high: float, most: int) -> list[float]:
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]
