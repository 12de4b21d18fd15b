"""Numbers as a person reads them: three significant figures, decimal units, a dash for what is missing."""

from __future__ import annotations

from vitlet.measure.statistics import Speedup

DASH = "–"
#: Between a number and its unit, so that a line never breaks there.
SPACE = "\N{NO-BREAK SPACE}"

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def figures(value: float | None) -> str:
    """0.512, 4.31, 22.1, 559, 1,234; powers of ten below a thousandth."""
    if value is None:
        return DASH
    size = abs(value)
    if size == 0:
        return "0"
    if size < 0.001:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}{SPACE}×{SPACE}10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    # Compare what will be shown: 9.996 is "10.0" and not "10.00".
    digits = next((d for d, limit in ((3, 0.9995), (2, 9.995), (1, 99.95)) if size < limit), 0)
    return f"{value:,.{digits}f}"


def milliseconds(value: float | None) -> str:
    """79.1 -> "79.1 ms"."""
    return _with_unit(figures(value), "ms")


def megabytes(size_bytes: float | None) -> str:
    """88_123_456 -> "88.1", of a million bytes."""
    return DASH if size_bytes is None else figures(size_bytes / 1e6)


def megabytes_unit(size_bytes: float | None) -> str:
    """88_123_456 -> "88.1 MB"."""
    return _with_unit(megabytes(size_bytes), "MB")


def percent(share: float | None, images: int = 0) -> str:
    """0.9125 -> "91.3"; with more than 1,000 images a second decimal means something."""
    if share is None:
        return DASH
    return f"{100 * share:.{2 if images > 1000 else 1}f}"


def percent_unit(share: float | None, images: int = 0) -> str:
    """0.9125 -> "91.3 %"."""
    return _with_unit(percent(share, images), "%")


def error_percent(share: float | None) -> str:
    """A relative error: 0.0231 -> "2.31"; below a thousandth of a per cent "<0.001"."""
    if share is None:
        return DASH
    return "<0.001" if 0 < share < 1e-5 else figures(100 * share)


def ratio(value: float) -> str:
    """Two decimals below 2, where a hundredth is a per cent; one below 10; none above."""
    return f"{value:.2f}" if value < 1.995 else f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def times(value: float, more: str, less: str) -> str:
    """(3.6, "faster", "slower") -> "3.6× faster"; (0.14, ...) -> "7.1× slower"."""
    return f"{ratio(value)}× {more}" if value >= 1 else f"{ratio(1 / value)}× {less}"


def speed(found: Speedup | None) -> str:
    """A speed-up in words."""
    if found is None:
        return DASH
    if not (found.is_faster or found.is_slower):
        return "within noise"
    return times(found.ratio, "faster", "slower")


def interval(found: Speedup | None) -> str:
    """The 95 % interval of a speed-up, the way round that ``speed`` tells it: "3.4–3.8×"."""
    if found is None:
        return ""
    low, high = (1 / found.high, 1 / found.low) if found.is_slower else (found.low, found.high)
    return f"{ratio(low)}–{ratio(high)}×"


def when(created: str) -> str:
    """2026-11-22T07:18:50+00:00 -> "2026-11-22 07:18:50 UTC"."""
    return created.replace("T", " ").removesuffix("+00:00") + (" UTC" if created.endswith("+00:00") else "")


def _with_unit(text: str, unit: str) -> str:
    return text if text == DASH else f"{text}{SPACE}{unit}"
