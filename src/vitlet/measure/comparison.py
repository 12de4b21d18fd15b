"""What the measurements mean for a person who must choose: which variant is best here, which are traps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vitlet.errors import InvalidValue, MeasurementFailed
from vitlet.measure.budget import NO_BUDGET, Budget, excess
from vitlet.measure.gates import failed_gates
from vitlet.measure.sentences import sentences
from vitlet.measure.statistics import Speedup, latency_summary, noise_floor, speedup
from vitlet.measure.verdict import Judged, Limits, Verdict, basis_of, judge, over_budget
from vitlet.records import Measurement


@dataclass(frozen=True)
class Comparison:
    """What the measurements mean; every index is into the measurements that were compared.

    ``best`` is the fastest variant that keeps its answers and the budget; it is ``baseline`` if that does and none is
    faster by more than noise. If none keeps the budget, it is the one that comes nearest, and ``excess`` says what that
    takes too much of. ``faults`` say why each cannot be chosen, if it cannot. ``noise`` is by how much two measurements
    of the same file may differ here (0.04 is 4 %), ``None`` if no file was visited twice. ``sentences`` say it to a
    person, the most important first.
    """

    baseline: int
    best: int
    verdicts: tuple[Verdict, ...]
    speedups: tuple[Speedup | None, ...]
    noise: float | None
    sentences: tuple[str, ...]
    faults: tuple[str, ...] = ()
    excess: str = ""

    @property
    def recommended(self) -> int | None:
        """The best, unless even that is over the budget."""
        return None if self.excess else self.best

    @property
    def slower(self) -> tuple[int, ...]:
        """The variants that are slower than doing nothing."""
        return tuple(index for index, verdict in enumerate(self.verdicts) if verdict == "slower")

    @property
    def wrong(self) -> tuple[int, ...]:
        """The variants whose logits are not this model's."""
        return tuple(index for index, verdict in enumerate(self.verdicts) if verdict == "wrong")

    @property
    def unreliable(self) -> tuple[int, ...]:
        """The variants that are faster, but whose answers are not good enough."""
        return tuple(index for index, verdict in enumerate(self.verdicts) if verdict == "unreliable")


def compare(
    measurements: Sequence[Measurement],
    *,
    baseline: int = 0,
    minimum_agreement: float = 0.98,
    maximum_drop: float = 0.01,
    answers_matter: bool = True,
    budget: Budget = NO_BUDGET,
) -> Comparison:
    """Compare variants of one model, measured together, with the one that was not compressed.

    A variant whose logits are too far off to be this model's (``gates``) is "wrong" and is not
    recommended. A variant's answers are good enough if its top-1 accuracy on the labelled images is within
    ``maximum_drop`` (0..1) of the baseline's; without labels, if its agreement with the baseline is
    at least ``minimum_agreement`` (0..1); without images nothing can be said, and speed alone
    counts. ``answers_matter=False`` is for random weights. Where the baseline itself is over ``budget``, a variant
    that is no faster may be the best: it is smaller.

    Raises:
        InvalidValue: a limit is out of range, the baseline is not there, or the measurements come
            from different environments or protocols.
        MeasurementFailed: no variant could be measured.
    """
    limits = _limits(minimum_agreement, maximum_drop)
    if not 0 <= baseline < len(measurements):
        raise InvalidValue(f"baseline is {baseline}; there are {len(measurements)} measurements, counted from 0")
    _check_comparable(measurements)
    timed = [index for index, m in enumerate(measurements) if m.status == "ok" and m.latency_samples_ms]
    if not timed:
        first = next((m for m in measurements if m.status == "failed"), measurements[baseline])
        raise MeasurementFailed(f"no variant could be measured; {first.engine} {first.precision}: {_reason(first)}")
    standard = measurements[baseline]
    noise = noise_floor([measurements[index] for index in timed])
    basis = basis_of(standard if baseline in timed else measurements[timed[0]], answers_matter)
    judged = []
    gates = failed_gates(measurements)
    for index, measurement in enumerate(measurements):
        known = index in timed and baseline in timed
        speed = speedup(standard, measurement, noise=noise) if known and index != baseline else None
        one = judge(measurement, standard, speed, basis, limits, gates[index])
        over = None
        if index in timed:
            over = excess(measurement, speed, noise, budget, is_baseline=index == baseline)
        judged.append(over_budget(one, over) if over else one)
    best, reliable = _choice(judged, timed, baseline)
    for index in reliable:
        if (
            index not in (best, baseline)
            and not speedup(measurements[best], measurements[index], noise=noise).is_slower
        ):
            judged[index] = replace(judged[index], tied=True)
    return Comparison(
        baseline=baseline,
        best=best,
        verdicts=tuple(one.verdict for one in judged),
        speedups=tuple(one.speedup for one in judged),
        noise=noise,
        sentences=sentences(judged, baseline, best, noise, basis),
        faults=tuple(one.fault or (one.excess.told if one.excess else "") for one in judged),
        excess=over.told if (over := judged[best].excess) else "",
    )


def _choice(judged: Sequence[Judged], timed: Sequence[int], baseline: int) -> tuple[int, list[int]]:
    """The best, and all that it was chosen from."""
    good = [i for i in timed if not judged[i].fault] or list(timed)
    within = [i for i in good if not judged[i].excess]
    if not within:
        return min(good, key=lambda i: over.ratio if (over := judged[i].excess) else 0.0), []
    # Where the baseline will do, only what is faster is worth the trouble. (Without one, all that is known is speed.)
    worth = [i for i in within if judged[i].verdict in ("baseline", "faster")] if baseline in within else within
    return min(worth, key=lambda i: _p50(judged[i].measurement)), worth


def _p50(measurement: Measurement) -> float:
    found = latency_summary(measurement)
    return math.inf if found is None else found.p50


def _limits(minimum_agreement: float, maximum_drop: float) -> Limits:
    for name, value in (("minimum_agreement", minimum_agreement), ("maximum_drop", maximum_drop)):
        if not 0 <= value <= 1:
            raise InvalidValue(f"{name} is {value}; it is a share, 0 to 1")
    return Limits(minimum_agreement, maximum_drop)


def _check_comparable(measurements: Sequence[Measurement]) -> None:
    measured = [m for m in measurements if m.status == "ok"]
    for other in measured[1:]:
        first = measured[0]
        names = f"{first.engine} {first.precision} and {other.engine} {other.precision}"
        if other.environment != first.environment:
            raise InvalidValue(f"{names} were measured in different environments; measure both again, together")
        if other.quick != first.quick:
            raise InvalidValue(f"only one of {names} was measured quickly; measure both again, together")
        if (other.images, other.random_inputs) != (first.images, first.random_inputs):
            raise InvalidValue(f"{names} were measured on different images; measure both again, together")


def _reason(measurement: Measurement) -> str:
    return measurement.reason or "it was not timed"
