"""A certificate in one sentence."""

from __future__ import annotations

from vitlet.certify.certificate import Certificate


def sentence(found: Certificate) -> str:
    """What a person needs to know of it, the verdict first."""
    return f"{found.outcome.upper()}: {_claim(found)}" if found.outcome else _claim(found)


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


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _points(share: float) -> str:
    return f"{100 * share:.2f} points"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
