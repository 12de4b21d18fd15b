"""PASS, FAIL or INCONCLUSIVE: whether accuracy dropped by no more than a limit."""

from __future__ import annotations

from math import ceil, log, sqrt
from typing import Literal, TypeAlias

import numpy as np

from vitlet.certify.paired import Paired, check_confidence, p_value
from vitlet.errors import InvalidValue
from vitlet.measure.statistics import Speedup

Outcome: TypeAlias = Literal["pass", "fail", "inconclusive"]

#: With as many images as are said to decide, they do so with about this probability.
POWER = 0.9
#: More images than anybody would label for it.
_MOST_IMAGES = 10_000_000


def judge(seen: Paired, limit: float, confidence: float = 0.95) -> Outcome:
    """Whether the true drop is at most ``limit`` (0 to 1): "pass" if it is with that confidence, "fail" if with that
    confidence it is more. A model that drops by more passes with a probability of at most 1 - ``confidence``, and no
    more often does one fail that drops by less.

    Raises:
        InvalidValue: ``limit`` or ``confidence`` is out of its range.
    """
    check_limit(limit)
    check_confidence(confidence)
    if p_value(seen, limit) <= 1 - confidence:
        return "pass"
    return "fail" if p_value(seen.swapped, -limit) <= 1 - confidence else "inconclusive"


def judge_speed(found: Speedup, max_slower: float) -> Outcome:
    """Whether something takes at most 1 + ``max_slower`` times as long as before: by the interval of ``found``, which
    is no narrower than two measurements of one file differ.

    Raises:
        InvalidValue: ``max_slower`` is negative.
    """
    check_slowdown(max_slower)
    least = 1 / (1 + max_slower)
    return "pass" if found.low >= least else "fail" if found.high < least else "inconclusive"


def check_slowdown(max_slower: float) -> None:
    """Hold ``max_slower`` to what a slowdown can be held to.

    Raises:
        InvalidValue: it is negative.
    """
    if not max_slower >= 0:
        raise InvalidValue(f"the limit of the slowdown is {max_slower}; it must be 0 or more")


def check_limit(limit: float) -> None:
    """Hold ``limit`` to what a drop can be held to.

    Raises:
        InvalidValue: it is not from 0 to below 1.
    """
    if not 0 <= limit < 1:
        raise InvalidValue(f"the limit of the drop is {limit}; it must be at least 0 and below 1")


def images_to_decide(seen: Paired, limit: float, confidence: float = 0.95) -> int | None:
    """About how many images in all would decide; ``None`` for more than can be meant.

    The normal approximation for a difference of paired shares, with ``POWER``, for a true drop that is none or as far
    from ``limit`` as the one that was seen (the median of what may be behind it). The share of changed images is taken
    with one more changed and one more not: a handful without a change is no proof that there are none.
    """
    from scipy.special import ndtri

    changed = (seen.lost + seen.won + 1) / (seen.images + 2)
    deviation = sqrt(changed / seen.images)
    likely = np.median(np.abs(limit - seen.drop + deviation * ndtri(np.linspace(0.005, 0.995, 100))))
    distance = min(likely, limit or likely)
    z = ndtri(confidence) + ndtri(POWER)
    # At best nothing changes at all; even that is proof only from so many images on.
    at_best = -log(1 - confidence) / distance
    needed = ceil(max(z * z * changed / distance**2, at_best))
    return needed if needed <= _MOST_IMAGES else None
