"""Section: how good the answers are against how long they take."""

from __future__ import annotations

import math

from markupsafe import Markup

from vitlet.records import Measurement
from vitlet.report.data import ReportData
from vitlet.report.figures import SPACE, error_percent, percent_unit
from vitlet.report.scatter import CANVASES, Quality, draw
from vitlet.report.template import fill

#: More colours cannot be told apart; further engines share them.
COLOURS = 9

#: The strongest evidence first.
_QUALITIES = (
    Quality(
        "Top-1 accuracy",
        lambda m: None if m.top1 is None else 100 * m.top1,
        lambda m: f"{percent_unit(m.top1, m.labelled_images)} right",
        lambda m: m.labelled_images,
        lambda m: _half_width(m, m.labelled_images),
    ),
    Quality(
        "Agreement with the uncompressed model",
        lambda m: None if m.agreement is None else 100 * m.agreement,
        lambda m: f"{percent_unit(m.agreement, m.images)} same answer",
        lambda m: m.images,
    ),
    Quality(
        "Logits error",
        lambda m: None if m.logits_error is None else 100 * m.logits_error,
        lambda m: f"{error_percent(m.logits_error)}{SPACE}% logits error",
        lower_is_better=True,
    ),
)


def _half_width(m: Measurement, images: int) -> float | None:
    """Half of the 95 % interval of a difference of accuracies on the same images, in points: no more answers can have
    become right or wrong than have changed, so its variance is at most their share over the number of images.
    """
    if m.agreement is None or not images:
        return None
    return 100 * 1.96 * math.sqrt((1 - m.agreement) / images)


_TEMPLATE = """
<section aria-labelledby="tradeoff">
<h2 id="tradeoff">{{ quality.title }} against latency</h2>
<p class="lead">Further left is faster, further up is better{{ ": zero is at the top" if quality.lower_is_better }}. \
{{ "The dashed lines cross at the uncompressed model." if has_baseline }}</p>
{% for drawing in drawings %}{{ drawing }}{% endfor %}
<ul class="legend" aria-label="Legend">
{% for engine, colour in colours.items() %}
<li><svg width="12" height="12" aria-hidden="true"><circle class="dot c{{ colour }}" cx="6" cy="6" r="5"/></svg>\
{{ engine }}</li>
{% endfor %}
<li><svg width="12" height="12" aria-hidden="true"><circle class="dot hollow c0" cx="6" cy="6" r="4.5"/></svg>\
fp32 (hollow)</li>
<li><svg width="26" height="12" aria-hidden="true"><path class="spread c0" d="M1 6H25M13 0V12"/></svg>\
95 % intervals{{ " (upright: of the best, against the uncompressed model)" \
if quality.title == "Top-1 accuracy" }}</li>
<li><svg width="26" height="12" aria-hidden="true"><circle class="dot c0" cx="5" cy="6" r="3"/>\
<circle class="dot c0" cx="18" cy="6" r="5"/></svg>area: size of the file</li>
<li><svg width="26" height="12" aria-hidden="true"><path class="front" d="M1 10H13V3H25"/></svg>\
none is better in both</li>
</ul>
{% if missing %}<p class="note">Not in the plot, for want of a value: {{ missing|join(", ") }}.</p>{% endif %}
</section>
"""


def section(data: ReportData) -> Markup:
    """The plot at two widths, of which the page shows the one that fits; nothing if fewer than two
    variants have a point in it.
    """
    quality = _quality(data)
    if quality is None:
        return Markup()
    rows = [row for row in data.measured if row.latency and quality.value(row.measurement) is not None]
    colours = engine_colours(data)
    return fill(
        _TEMPLATE,
        quality=quality,
        has_baseline=any(row.is_baseline for row in rows),
        drawings=[draw(rows, quality, canvas, colours) for canvas in CANVASES],
        colours={row.measurement.engine: colours[row.measurement.engine] for row in rows},
        missing=[row.name for row in data.measured if row not in rows],
    )


def engine_colours(data: ReportData) -> dict[str, int]:
    """A colour's number by engine: 0 (grey) for the baseline's, then 1, 2, ... in order of appearance."""
    own = data.rows[data.baseline].measurement.engine
    others = dict.fromkeys(row.measurement.engine for row in data.rows if row.measurement.engine != own)
    return {own: 0} | {engine: 1 + number % (COLOURS - 1) for number, engine in enumerate(others)}


def _quality(data: ReportData) -> Quality | None:
    """The first quality that at least two variants have.

    Answers mean nothing where weights or inputs are random; the numeric error still does.
    """
    timed = [row.measurement for row in data.measured if row.latency]
    is_random = data.random_weights or any(m.random_inputs for m in timed)
    for quality in _QUALITIES[-1:] if is_random else _QUALITIES:
        if sum(quality.value(m) is not None for m in timed) >= 2:
            return quality
    return None
