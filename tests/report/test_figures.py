from __future__ import annotations

import pytest

from vitlet.measure.statistics import Speedup
from vitlet.report import figures as f


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (559.4, "559"),
        (79.14, "79.1"),
        (22.0, "22.0"),
        (4.308, "4.31"),
        (0.5123, "0.512"),
        (1234.5, "1,234"),
        (0, "0"),
        (9.996, "10.0"),  # and not "10.00"
        (99.96, "100"),
        (0.99951, "1.00"),
        (6.7e-6, "6.7\u00a0×\u00a010⁻⁶"),
        (None, "–"),
    ],
)
def test_three_significant_figures(value: float | None, text: str) -> None:
    assert f.figures(value) == text


def test_units_stay_with_their_number_and_a_dash_has_none() -> None:
    assert f.milliseconds(79.14) == "79.1\u00a0ms"
    assert f.milliseconds(None) == "–"
    assert f.megabytes_unit(22_012_345) == "22.0\u00a0MB"  # decimal: a million bytes
    assert f.megabytes_unit(None) == "–"
    assert f.percent_unit(0.9125) == "91.2\u00a0%"
    assert f.percent_unit(None) == "–"


def test_second_decimal_of_a_percentage_needs_a_thousand_images() -> None:
    assert f.percent(0.92345, 500) == "92.3"
    assert f.percent(0.92345, 10_000) == "92.34"


@pytest.mark.parametrize(
    ("share", "text"), [(0.0231, "2.31"), (3.2e-7, "<0.001"), (0.0, "0"), (None, "–"), (1.4e-5, "0.001")]
)
def test_relative_error(share: float | None, text: str) -> None:
    assert f.error_percent(share) == text


@pytest.mark.parametrize(
    ("found", "words", "interval"),
    [
        (Speedup(3.6, 3.44, 3.77), "3.6× faster", "3.4–3.8×"),
        (Speedup(1.05, 1.01, 1.09), "1.05× faster", "1.01–1.09×"),
        (Speedup(0.141, 0.136, 0.147), "7.1× slower", "6.8–7.4×"),
        (Speedup(1.02, 0.97, 1.07), "within noise", "0.97–1.07×"),
        (Speedup(25.4, 25.0, 25.9), "25× faster", "25–26×"),
        (None, "–", ""),
    ],
)
def test_speed_in_words(found: Speedup | None, words: str, interval: str) -> None:
    assert f.speed(found) == words
    assert f.interval(found) == interval


def test_every_magnitude_is_short() -> None:
    for exponent in range(-12, 7):
        for mantissa in (1.0, 2.345, 9.99, 9.9999):
            text = f.figures(mantissa * 10.0**exponent)
            digits = [c for c in text.partition("\u00a0")[0] if c.isdigit()]
            assert 1 <= len(digits) <= max(4, exponent + 2), text
