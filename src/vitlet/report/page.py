"""The page: every section in order, in one HTML file that needs nothing from outside itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from markupsafe import Markup

from vitlet.bundle.manifest import Manifest
from vitlet.report import (
    changed,
    checks,
    environment,
    execution,
    glossary,
    layers,
    recipe,
    steadiness,
    tradeoff,
    variants,
    verdict,
    weight,
)
from vitlet.report.data import ReportData
from vitlet.report.template import fill

#: Each gives its piece of the page from the data, or nothing. To add one, write a module and name it here.
SECTIONS = (
    verdict.section,
    tradeoff.section,
    changed.section,
    variants.section,
    layers.section,
    execution.section,
    weight.section,
    steadiness.section,
    checks.section,
    environment.section,
    recipe.section,
    glossary.section,
)

#: Beside the house's own.
_STYLES = ("inspection.css",)

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta name="generator" content="vitlet {{ version }}">
<title>{{ title }}</title>
<link rel="icon" href="data:,">
<style>{{ style }}</style>
</head>
<body>
<main>
{% for piece in pieces %}{{ piece }}{% endfor %}
</main>
<footer><p>Written by vitlet {{ version }}. This page is complete in itself and loads nothing.</p></footer>
</body>
</html>
"""


def render_report(data: ReportData | Manifest) -> str:
    """The report on a bundle, or on measurements alone, as one HTML 5 document.

    It opens offline and may not load anything, which its Content-Security-Policy makes sure of; all text from
    outside (names of files, labels, reasons) is escaped.
    """
    if isinstance(data, Manifest):
        data = ReportData.of(data)
    return document(
        f"{data.reference}: vitlet report", data.vitlet_version, [section(data) for section in SECTIONS], *_STYLES
    )


def document(title: str, version: str, pieces: Sequence[Markup], *styles: str) -> str:
    """A whole HTML 5 document of these pieces, in the house's style and that of further style sheets beside it."""
    style = "\n".join(files("vitlet.report").joinpath(name).read_text("utf-8") for name in ("style.css", *styles))
    page = fill(_TEMPLATE, title=title, version=version, policy=_policy(style), style=Markup(style), pieces=pieces)
    return str(page)  # no Markup, whose every method escapes its arguments


def _policy(style: str) -> str:
    """Nothing but this very style sheet, and the empty icon that keeps browsers from asking for one."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
