"""The comparison in plain sentences: what is best here, what is a trap, what cannot be told apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vitlet.measure.processor import INT8_DOT_PRODUCT
from vitlet.measure.statistics import ASSUMED_NOISE, Speedup, latency_summary
from vitlet.measure.verdict import Basis, Judged, Verdict, images, percent
from vitlet.records import Environment, Measurement

_ARM = ("aarch64", "arm64", "armv8l", "armv7l", "armv6l")
_X86 = ("x86_64", "amd64", "i686", "i386")


def sentences(judged: Sequence[Judged], baseline: int, best: int, noise: float | None, basis: Basis) -> tuple[str, ...]:
    """Everything a person should know of the comparison, the most important first."""
    standard = judged[baseline]
    said = [_best(judged, standard, judged[best], basis)]
    if len(judged) > 1:
        said += _tied(judged)
        said += _wrong(judged)
        said += _slower([one for one in judged if one is not judged[best]], standard)
        said += _unreliable(judged, standard)
        said += _over_budget(judged, judged[best])
        said += _no_faster(judged, standard, noise)
        said += _alone(standard, basis)
    said += _not_measured(judged)
    if standard.measurement.quick:
        said.append("This was measured quickly: measure in full before relying on it.")
    return tuple(said)


def _best(judged: Sequence[Judged], standard: Judged, best: Judged, basis: Basis) -> str:
    time = f"{_ms(best.measurement)} for an image"
    if best.excess:
        return f"Nothing keeps within the limits here; {best.name} comes nearest: {best.excess.told}."
    if len(judged) == 1:
        return f"{best.name} takes {time} here."
    if standard.measurement.status != "ok":
        return f"{best.name} is the fastest here ({time}), but {standard.name} was not measured to compare it with."
    if best is standard:
        others = [one for one in judged if one is not standard and one.measurement.status == "ok"]
        if not others and _with(judged, "left out"):
            return f"{best.name} is the best choice here ({time}): nothing that was tried promised more."
        if not others:
            return f"{best.name} is the only variant that could be measured here ({time})."
        keeping = "" if basis == "none" else " with answers as good"
        keeping += " and within the limits" if any(one.excess for one in others) else ""
        return f"{best.name} is the best choice here ({time}): no variant is measurably faster{keeping}."
    speed = f"{_times(best.speedup)} times as fast as {standard.name}" if best.speedup else "the fastest"
    if best.speedup and best.speedup.is_slower:
        speed = f"the fastest within the limits, though {_slowness(best.speedup)} slower than {standard.name}"
    against = f"{_ms(best.measurement)} against {_ms(standard.measurement)} for an image"
    return f"{best.name} is best here: {speed}{_interval(best.speedup)}, {against}{_answers(best, standard, basis)}."


def _answers(best: Judged, standard: Judged, basis: Basis) -> str:
    mine, theirs = best.measurement, standard.measurement
    if basis == "accuracy" and mine.top1 is not None and theirs.top1 is not None:
        return f", with {percent(mine.top1)} of {images(mine.labelled_images)} right against {percent(theirs.top1)}"
    if basis == "agreement" and mine.agreement is not None:
        return f", with the same answer on {percent(mine.agreement)} of {images(mine.images)}"
    return ""


def _tied(judged: Sequence[Judged]) -> Iterator[str]:
    names = [one.name for one in judged if one.tied]
    if names:
        yield f"{_listed(names)} cannot be told from it by speed."


def _slower(judged: Sequence[Judged], standard: Judged) -> Iterator[str]:
    """One sentence for each cause of slowness, with the way out."""
    by_advice: dict[str, list[Judged]] = {}
    for one in _with(judged, "slower"):
        by_advice.setdefault(_advice(one.measurement), []).append(one)
    for advice, group in by_advice.items():
        end = f"slower than doing nothing ({standard.name}) on this processor{advice}."
        if len(group) == 1:
            yield f"{group[0].name} is {_slowness(group[0].speedup)} {end}"
        else:
            yield f"{_listed([f'{one.name} ({_slowness(one.speedup)})' for one in group])} are {end}"


def _advice(measurement: Measurement) -> str:
    here = measurement.environment
    if here is None or not measurement.precision.startswith(("int8-dynamic", "int8-static")):
        return ""
    machine = here.architecture.lower()
    if "qnnpack" in measurement.precision and machine not in _ARM:
        way_out = "; use the x86 kernels here" if machine in _X86 else ""
        return f": QNNPACK's kernels are written for Arm{way_out}"
    if _lacks_int8(here):
        return ": it has no instructions that multiply int8 faster than float"
    return ""


def _lacks_int8(here: Environment) -> bool:
    return bool(here.instruction_sets) and not set(here.instruction_sets) & set(INT8_DOT_PRODUCT)


def _wrong(judged: Sequence[Judged]) -> Iterator[str]:
    for one in _with(judged, "wrong"):
        yield f"{one.name} is not the same model any more and is left out of the choice: {one.fault}."


def _unreliable(judged: Sequence[Judged], standard: Judged) -> Iterator[str]:
    for one in _with(judged, "unreliable"):
        speed = f"is {_times(one.speedup)} times as fast as {standard.name}, but" if one.speedup else "is fast, but"
        yield f"{one.name} {speed} its answers are not good enough: {one.fault}."


def _over_budget(judged: Sequence[Judged], best: Judged) -> Iterator[str]:
    for one in judged:
        if one.excess and one is not best and one.verdict in ("over budget", "baseline"):
            yield f"{one.name} is over budget: {one.excess.told}."


def _no_faster(judged: Sequence[Judged], standard: Judged, noise: float | None) -> Iterator[str]:
    group = _with(judged, "no faster")
    if not group:
        return
    if noise is None:
        known = f"each was visited once, so up to {percent(ASSUMED_NOISE)} is taken for noise"
    else:
        known = f"two measurements of one file differ by up to {percent(noise)} here"
    verb, difference = ("is", "the difference is") if len(group) == 1 else ("are", "the differences are")
    names = _listed([one.name for one in group])
    yield f"{names} {verb} no faster than {standard.name}: {difference} inside the noise ({known})."


def _alone(standard: Judged, basis: Basis) -> Iterator[str]:
    if basis != "none" or standard.measurement.status != "ok":
        return
    if standard.measurement.images:
        yield "Only speed counted: the weights are random, so the answers mean nothing."
    else:
        yield "Only speed counted: there were no images to judge the answers by."


def _not_measured(judged: Sequence[Judged]) -> Iterator[str]:
    for one in _with(judged, "failed"):
        yield f"{one.name} could not be measured: {one.measurement.reason.removeprefix(f'{one.name}: ').rstrip('.')}."
    names = [one.name for one in _with(judged, "unsupported")]
    if names:
        yield f"{_listed(names)} {'is' if len(names) == 1 else 'are'} not supported here."
    left_out = len(_with(judged, "left out"))
    if left_out:
        variants = "1 variant" if left_out == 1 else f"{left_out} variants"
        yield f"The search left out {variants}, for reasons that the report and the JSON document tell."


def _with(judged: Sequence[Judged], verdict: Verdict) -> list[Judged]:
    return [one for one in judged if one.verdict == verdict]


def _listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _ms(measurement: Measurement) -> str:
    found = latency_summary(measurement)
    return f"{_figures(found.p50)} ms" if found else "an unknown time"


def _times(speed: Speedup | None) -> str:
    return _ratio(speed.ratio) if speed else "?"


def _interval(speed: Speedup | None) -> str:
    return f" (95 % interval {_ratio(speed.low)} to {_ratio(speed.high)})" if speed else ""


def _slowness(speed: Speedup | None) -> str:
    slowness = 1 / speed.ratio if speed else 1.0
    return f"{_ratio(slowness)} times" if slowness >= 1.5 else f"{100 * (slowness - 1):.0f} %"


def _ratio(value: float) -> str:
    """Two decimals below 2, where a hundredth is a per cent; one below 10; none above."""
    return f"{value:.2f}" if value < 2 else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _figures(value: float) -> str:
    """Three significant figures."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
