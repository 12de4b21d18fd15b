"""Fill a piece of HTML with values, every one of them escaped."""

from __future__ import annotations

import unicodedata
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from vitlet.report import figures


def fill(template: str, **values: object) -> Markup:
    """Fill a jinja template; text is escaped, ``Markup`` (an already filled piece) is not."""
    return Markup(_ENVIRONMENT.from_string(template).render(**values))


def _visible(value: Any) -> Any:
    """Replace what no HTML page may hold (control characters, lone surrogates) by U+FFFD."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" else c for c in value)


def _pixels(value: float) -> str:
    """A coordinate to a tenth of a pixel, as short as can be."""
    return f"{value:.1f}".removesuffix(".0")


_ENVIRONMENT = Environment(
    autoescape=True, undefined=StrictUndefined, finalize=_visible, trim_blocks=True, lstrip_blocks=True
)
_ENVIRONMENT.filters.update(
    figures=figures.figures,
    ms=figures.milliseconds,
    mb=figures.megabytes,
    mb_unit=figures.megabytes_unit,
    pc=figures.percent,
    pc_unit=figures.percent_unit,
    error_pc=figures.error_percent,
    speed=figures.speed,
    interval=figures.interval,
    px=_pixels,
)
