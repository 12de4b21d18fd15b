"""The page in a real browser, where there is one: no complaint on its console, nothing lies on anything else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html import escape, unescape
from pathlib import Path

import pytest

from vitlet.records import Measurement
from vitlet.report import ReportData, render_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")

#: Measures the laid-out page; put into a copy of it, since the page itself allows no script.
PROBE = """<script>
const box = e => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
const seen = e => e.getBoundingClientRect().width > 0;
const found = {
  page: document.documentElement.scrollWidth, window: window.innerWidth,
  labels: [...document.querySelectorAll('.label')].filter(seen).map(box),
  dots: [...document.querySelectorAll('.plot .dot')].filter(seen).map(box),
  plots: [...document.querySelectorAll('.plot')].filter(seen).map(box),
  tips: [...document.querySelectorAll('.tip')].filter(seen).map(box),
  visible: [...document.querySelectorAll('.tip')].filter(e => getComputedStyle(e).visibility == 'visible').length,
};
const first = document.querySelectorAll('.hit')[%d];
first.focus();
found.focused = getComputedStyle(first.querySelector('.tip')).visibility;
parent.document.title = 'probe:' + JSON.stringify(found);
</script>"""


def browse(page: Path, profile: Path) -> tuple[str, list[str]]:
    """Open a page offline; return its document afterwards and what was said on the console."""
    done = subprocess.run(
        [
            str(CHROMIUM),
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars"),
            *("--enable-logging=stderr", "--log-level=0", f"--user-data-dir={profile}", "--window-size=1400,1000"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "HOME": str(profile)},
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_console_is_silent(deit_small: ReportData, tmp_path: Path) -> None:
    html = render_report(deit_small)
    page = tmp_path / "report.html"
    page.write_text(html, "utf-8")
    document, console = browse(page, tmp_path / "profile")
    assert "torchscript int8-dynamic-x86" in document
    assert console == []
    # And the test can hear: what the page's own policy forbids is complained of.
    for forbidden in ('<p style="color: red">', '<img src="https://example.org/x.png">', "<script>1</script>"):
        page.write_text(html.replace("<main>", f"<main>{forbidden}"), "utf-8")
        assert browse(page, tmp_path / "profile")[1] != [], forbidden


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["nine", "crowd", "long names"])
def test_nothing_overlaps_or_runs_off(
    deit_small: ReportData,
    make_report: Callable[..., ReportData],
    crowd: Callable[[int], tuple[Measurement, ...]],
    tmp_path: Path,
    kind: str,
    width: int,
) -> None:
    rows = deit_small.measurements if kind != "crowd" else crowd(25)
    if kind == "long names":
        rows = tuple(replace(m, engine=m.engine * 8, precision=m.precision * 6, reason=m.reason * 9) for m in rows)
    html = render_report(make_report(rows, reference="deit_small" * (1 if kind == "nine" else 12)))
    hit = 0 if width > 720 else len(re.findall('class="hit"', html)) // 2
    page = tmp_path / "probed.html"
    without_policy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    probed = without_policy.replace("</body>", f"{PROBE % hit}</body>")
    # A frame, since Chromium's own windows are never narrower than 500 pixels.
    frame = f'<iframe style="border: 0" width="{width}" height="900" srcdoc="{escape(probed)}"></iframe>'
    page.write_text(f"<!doctype html><title>none</title>{frame}", "utf-8")
    document, console = browse(page, tmp_path / "profile")
    assert console == []
    probe = re.search(r"<title>probe:(.*?)</title>", document)
    assert probe is not None
    found = json.loads(unescape(probe[1]))
    assert found["window"] == width
    assert found["page"] <= width
    assert len(found["plots"]) == 1  # the one that fits the window
    assert len(found["labels"]) >= 6
    assert found["visible"] == 0
    assert found["focused"] == "visible"  # details also come by keyboard
    for label in found["labels"]:
        assert inside(label, found["plots"][0])
        assert not any(meet(label, other) for other in found["labels"] if other is not label)
        assert not any(meet(label, dot) for dot in found["dots"])
    for tip in found["tips"]:
        assert inside(tip, [0, found["plots"][0][1], width, found["plots"][0][3]])


def meet(one: list[float], other: list[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def inside(one: list[float], other: list[float], slack: float = 2.0) -> bool:
    return all(a >= b - slack for a, b in zip(one[:2], other[:2], strict=True)) and all(
        a <= b + slack for a, b in zip(one[2:], other[2:], strict=True)
    )
