"""Whether a variant is faster than the baseline, and whether its answers are still good enough."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from vitlet.measure.budget import NO_BUDGET, Budget, Excess
from vitlet.measure.statistics import Speedup
from vitlet.records import Measurement

#: What the answers are judged by: labels, agreement with the baseline on unlabelled images, or not at all.
Basis: TypeAlias = Literal["accuracy", "agreement", "none"]

#: "wrong" failed a gate: its logits are not this model's (``gates``); "unreliable" is faster than the
#: baseline, but with answers too bad to use; "over budget" takes more than is allowed; "uncompared" was measured, but
#: one of the two was not timed;
#: "failed", "unsupported" and "left out" (by a search that saw no promise in it) were not measured.
Verdict: TypeAlias = Literal[
    "baseline",
    "faster",
    "no faster",
    "slower",
    "wrong",
    "unreliable",
    "over budget",
    "uncompared",
    "failed",
    "unsupported",
    "left out",
]


@dataclass(frozen=True)
class Limits:
    """What a variant's answers may lose: a share of top-1 accuracy, or of agreement where there are no labels (0 to 1
    both); and what it may take."""

    minimum_agreement: float = 0.98
    maximum_drop: float = 0.01
    budget: Budget = NO_BUDGET


@dataclass(frozen=True)
class Judged:
    """A measurement and what it means. ``fault`` is a clause that says why its answers are not good
    enough; ``excess`` says what it takes too much of; ``tied`` says that its speed cannot be told from the best one's.
    """

    measurement: Measurement
    verdict: Verdict
    speedup: Speedup | None = None
    fault: str = ""
    excess: Excess | None = None
    tied: bool = False

    @property
    def name(self) -> str:
        return f"{self.measurement.engine} {self.measurement.precision}"


def judge(
    measurement: Measurement,
    baseline: Measurement,
    speed: Speedup | None,
    basis: Basis,
    limits: Limits,
    gate: str = "",
) -> Judged:
    """Give one measurement its verdict; ``speed`` is ``None`` if one of the two was not timed; ``gate`` says
    which gate it failed.
    """
    if measurement.status != "ok":
        return Judged(measurement, measurement.status)
    if measurement is baseline:
        return Judged(measurement, "baseline", speed)
    if gate:
        return Judged(measurement, "wrong", speed, gate)
    fault = answer_fault(measurement, baseline, basis, limits)
    if speed is None:
        return Judged(measurement, "uncompared", None, fault)
    if speed.is_faster:
        return Judged(measurement, "unreliable" if fault else "faster", speed, fault)
    return Judged(measurement, "slower" if speed.is_slower else "no faster", speed, fault)


def over_budget(judged: Judged, excess: Excess) -> Judged:
    """The same, known to be over budget; answers that are not good enough remain the worse fault."""
    is_usable = not judged.fault and judged.verdict != "baseline"
    return replace(judged, verdict="over budget" if is_usable else judged.verdict, excess=excess)


def basis_of(baseline: Measurement, answers_matter: bool) -> Basis:
    """By what the answers of variants of this baseline can be judged."""
    if not answers_matter or baseline.images == 0:
        return "none"
    return "agreement" if baseline.top1 is None else "accuracy"


def answer_fault(measurement: Measurement, baseline: Measurement, basis: Basis, limits: Limits) -> str:
    """Why the answers are not good enough, as a clause; empty if they are, or cannot be judged."""
    if basis == "accuracy" and baseline.top1 is not None:
        mine = measurement.top1 or 0.0
        lost = baseline.top1 - mine
        # A share such as 0.95 - 0.94 is not exactly 0.01 in binary.
        if lost > limits.maximum_drop + 1e-9:
            return (
                f"{percent(mine)} of {images(baseline.labelled_images)} right against {percent(baseline.top1)}, "
                f"a drop of {points(lost)} where at most {points(limits.maximum_drop)} "
                f"{'is' if points(limits.maximum_drop).endswith('point') else 'are'} allowed"
            )
    if basis == "agreement" and (measurement.agreement or 0.0) < limits.minimum_agreement - 1e-9:
        return (
            f"the same answer on only {percent(measurement.agreement or 0.0)} of {images(measurement.images)}, "
            f"where {percent(limits.minimum_agreement)} is asked for"
        )
    return ""


def percent(share: float) -> str:
    """0.9425 -> "94.25 %"; no more digits than needed, two at most."""
    return f"{_short(100 * share)} %"


def points(share: float) -> str:
    """0.031 -> "3.1 points", of a hundred."""
    text = _short(100 * share)
    return f"{text} {'point' if text == '1' else 'points'}"


def images(count: int) -> str:
    """1 -> "1 image", 500 -> "500 images"."""
    return f"{count} image{'' if count == 1 else 's'}"


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
