"""A certificate in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

from vitlet.certify.certificate import Certificate
from vitlet.certify.looks import confidence_of_look
from vitlet.data.twins import Twins

#: Classes that are named in a remark.
_TOLD = 3


def sentence(found: Certificate) -> str:
    """What a person needs to know of it, the verdict first."""
    verdict = f"{found.outcome.upper()}: " if found.outcome else ""
    return f"{verdict}{_claim(found)}{_looks(found)}"


def latency_sentence(found: Certificate) -> str:
    """What is certain of the latency; empty if nothing is."""
    claim = found.latency
    if claim is None:
        return ""
    span = f"{claim.low_ms:.3g} to {claim.high_ms:.3g} ms"
    told = f"an image takes {claim.ms:.3g} ms on the machine where it was measured (95 % interval {span}"
    if claim.speedup is not None:
        low, high = claim.speedup.low, claim.speedup.high
        told += f"; {claim.speedup.ratio:.3g} times as fast as the original, {low:.3g} to {high:.3g}"
    return f"{told}; two measurements of one file differ by up to {_short(100 * claim.noise)} %)"


def _claim(found: Certificate) -> str:
    sure = f"with {_short(100 * found.confidence)} % confidence"
    if not found.labelled:
        seen = f"{_count(found.changed, 'answer')} of {_count(found.images, 'image')} changed"
        claim = f"{sure} at most {_percent(found.changed_at_most)} of answers change, and accuracy drops by no more"
        return f"{claim} ({seen}, no labels{_limit(found)}){_more(found)}"
    seen = f"{found.lost} of {_count(found.labelled, 'image')} lost, {found.won} won"
    low = found.drop_at_least or 0.0
    if found.outcome == "fail":
        return f"{sure} top-1 drops by at least {_points(low)} ({seen}{_limit(found)})"
    if found.outcome == "inconclusive":
        drop = f"top-1 changes by {-100 * found.drop_at_most:+.2f} to {-100 * low:+.2f} points"
        return f"{drop}, each bound {sure} ({seen}{_limit(found)}){_more(found)}"
    if found.drop_at_most < 0:
        return f"{sure} top-1 rises by at least {_points(-found.drop_at_most)} ({seen}{_limit(found)})"
    return f"{sure} top-1 drops by at most {_points(found.drop_at_most)} ({seen}{_limit(found)})"


def remarks(found: Certificate, labels: Sequence[str], twins: Sequence[Twins]) -> tuple[str, ...]:
    """What else a person should know of it, in whole sentences: which classes surely became worse (``labels`` are the
    model's), and which of its images are ``twins`` of others.
    """
    told = []
    surely = [one for one in found.classes if one.drop_at_least > 0]
    if surely:
        named = ", ".join(f"{labels[one.index]!r} by at least {_points(one.drop_at_least)}" for one in surely[:_TOLD])
        more = f", and {len(surely) - _TOLD} more" if len(surely) > _TOLD else ""
        sure = f"with {_short(100 * found.confidence)} % confidence in all of it"
        told.append(f"{_count(len(surely), 'class', 'classes')} became worse, {sure}: {named}{more}.")
    if twins:
        count = f"{_count(len(twins), 'image')} to certify with {'looks' if len(twins) == 1 else 'look'} like one"
        first = f"{twins[0].name} like {twins[0].other}"
        told.append(f"{count} that had a part in the choice ({first}), so the verdict may be too good.")
    if found.outcome == "inconclusive" and found.more_images is not None:
        told.append(
            "Of further images in --data three in five are for the verdict (of those in --certify-data all), up to "
            "--certify-limit."
        )
    return tuple(told)


def _looks(found: Certificate) -> str:
    if found.earlier_looks is None:
        return "; whether these images judged before is not known" if found.outcome else ""
    if not found.earlier_looks:
        return ""
    error = 1 - confidence_of_look(found.confidence, found.earlier_looks)
    digits = max(0, 1 - floor(log10(100 * error)))
    held = f"{100 * (1 - error):.{digits}f}".rstrip("0").rstrip(".")
    before = _count(found.earlier_looks, "other verdict")
    return f"; as these images had a part in {before} before, this one is held to {held} %"


def _limit(found: Certificate) -> str:
    return "" if found.limit is None else f"; limit {_points(found.limit)}"


def _more(found: Certificate) -> str:
    if found.outcome != "inconclusive":
        return ""
    if found.more_images is None and not found.labelled:
        return "; more change than may be lost, so only labels could tell whether accuracy drops"
    if found.more_images is None:
        return "; the drop seems to lie at the limit, where no number of images decides"
    return f"; about {_rounded(found.more_images):,} more images would decide"


def _rounded(count: int) -> int:
    """Two digits, upwards: it is an estimate."""
    unit = 10 ** max(0, len(str(count)) - 2)
    return -(-count // unit) * unit


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def _points(share: float) -> str:
    return f"{100 * share:.2f} points"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
