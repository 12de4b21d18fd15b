"""A scatter plot as SVG: one point a variant, its file's size as area, with intervals both ways and the line of those
that none beats in both; labels that do not overlap, details on hover and focus."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from vitlet.measure.statistics import LatencyClaim
from vitlet.records import Measurement
from vitlet.report.data import Row
from vitlet.report.figures import DASH, SPACE, megabytes_unit, milliseconds, speed
from vitlet.report.placement import Box, Label, Line, Point, place_labels
from vitlet.report.scale import Scale, latency_scale, share_scale
from vitlet.report.template import fill

#: Width of a character of the monospaced font of labels and details, as a share of its size.
_CHARACTER = 0.61
#: The radius of the largest file's point, and of the smallest as a share of it.
_LARGEST, _LEAST = 11.0, 0.35
_TIP_FONT = 12
_TIP_LINE = 17
_REGION_TEXT = "slower than doing nothing"


@dataclass(frozen=True)
class Quality:
    """What stands on the upward axis: a value in per cent of a row, over how many images it was taken, half of its
    interval against the baseline, and whether less of it is better.
    """

    title: str
    value: Callable[[Measurement], float | None]
    show: Callable[[Measurement], str]
    images: Callable[[Measurement], int] = lambda m: m.images
    half_width: Callable[[Measurement], float | None] = lambda m: None
    lower_is_better: bool = False


@dataclass(frozen=True)
class Canvas:
    """The size of a drawing in pixels; ``longest`` is the most characters of a line of a label."""

    name: str
    width: int
    height: int
    font: int
    longest: int
    ticks: int

    @property
    def plot(self) -> Box:
        """Where the points lie, axes left out."""
        return Box(62, 14, self.width - 12, self.height - 46)


#: The page shows the one that fits, so that type has the same size on a phone as on a screen.
CANVASES = (Canvas("wide", 1120, 480, 13, 34, 8), Canvas("narrow", 358, 440, 11, 20, 5))


@dataclass(frozen=True)
class Mark:
    """A row as it is drawn, in pixels: the point (``x``, ``y``), the ends of its intervals, its label and details."""

    row: Row
    x: float
    y: float
    radius: float
    left: float
    right: float
    top: float
    bottom: float
    colour: int
    lines: tuple[str, str]
    tip: tuple[str, ...]
    tip_box: Box
    label: Label | None = None

    @property
    def reach(self) -> float:
        """How far the mark goes, the ring around the best one included."""
        return self.radius + (6 if self.row.is_best else 1)


_TEMPLATE = """
<figure class="{{ canvas.name }}">
<svg class="plot" viewBox="0 0 {{ canvas.width }} {{ canvas.height }}" role="group" \
aria-label="{{ summary }}">
{% if slower %}
<rect class="slower-region" x="{{ slower.left|px }}" y="{{ slower.top|px }}" \
width="{{ (slower.right - slower.left)|px }}" height="{{ (slower.bottom - slower.top)|px }}"/>
{% endif %}
{% for y, text in y_ticks %}
<path class="grid" d="M{{ plot.left }} {{ y|px }}H{{ plot.right }}"/>
<text class="tick end" x="{{ plot.left - 8 }}" y="{{ (y + 4)|px }}">{{ text }}</text>
{% endfor %}
<path class="axis" d="M{{ plot.left }} {{ plot.bottom }}H{{ plot.right }}"/>
{% for x, text in x_ticks %}
<path class="axis" d="M{{ x|px }} {{ plot.bottom }}v5"/>
<text class="tick middle" x="{{ x|px }}" y="{{ plot.bottom + 20 }}">{{ text }}</text>
{% endfor %}
<text class="title end" x="{{ plot.right }}" y="{{ plot.bottom + 40 }}">Latency of an image, ms\
{{ " (logarithmic)" if logarithmic }}</text>
{% if region %}
<text class="region end" x="{{ region.right|px }}" y="{{ (region.bottom - 4)|px }}">{{ region_text }}</text>
{% endif %}
{% if baseline %}
<path class="baseline" d="M{{ baseline.x|px }} {{ plot.top }}V{{ plot.bottom }}\
M{{ plot.left }} {{ baseline.y|px }}H{{ plot.right }}"/>
{% endif %}
{% for m in marks if m.label and m.label.leader %}{% set l = m.label.leader %}
<path class="leader" d="M{{ l.x1|px }} {{ l.y1|px }}L{{ l.x2|px }} {{ l.y2|px }}"/>
{% endfor %}
{% if front %}<path class="front" d="{{ front }}"/>{% endif %}
{% for m in marks|reverse %}
<path class="spread c{{ m.colour }}" d="M{{ m.left|px }} {{ m.y|px }}H{{ m.right|px }}\
{% if m.bottom > m.top %}M{{ m.x|px }} {{ m.top|px }}V{{ m.bottom|px }}{% endif %}"/>
{% if m.row.is_best %}<circle class="halo" cx="{{ m.x|px }}" cy="{{ m.y|px }}" r="{{ (m.radius + 4)|px }}"/>{% endif %}
<circle class="dot c{{ m.colour }}{{ " hollow" if m.row.measurement.precision == "fp32" }}" \
cx="{{ m.x|px }}" cy="{{ m.y|px }}" r="{{ m.radius|px }}"/>
{% endfor %}
{% for m in marks if m.label %}{% set b = m.label.box %}
<text class="label" font-size="{{ canvas.font }}">\
<tspan class="engine" x="{{ b.left|px }}" y="{{ (b.top + canvas.font)|px }}">{{ m.lines[0] }}</tspan>\
<tspan x="{{ b.left|px }}" y="{{ (b.top + 2.2 * canvas.font)|px }}">{{ m.lines[1] }}</tspan></text>
{% endfor %}
{% for m in marks %}{% set t = m.tip_box %}
<g class="hit" tabindex="0" role="img" aria-label="{{ m.tip|join(", ") }}">\
<circle class="area" cx="{{ m.x|px }}" cy="{{ m.y|px }}" r="{{ (m.reach + 4)|px }}"/>
<g class="tip" aria-hidden="true">\
<rect x="{{ t.left|px }}" y="{{ t.top|px }}" width="{{ (t.right - t.left)|px }}" \
height="{{ (t.bottom - t.top)|px }}" rx="6"/>
{% for line in m.tip %}
<text class="{{ "engine" if loop.first }}" x="{{ (t.left + 11)|px }}" \
y="{{ (t.top + 20 + tip_line * loop.index0)|px }}">{{ line }}</text>
{% endfor %}
</g></g>
{% endfor %}
</svg>
{% if unlabelled %}
<figcaption class="note">There was no room for the names of {{ unlabelled }} of the {{ marks|length }} points; \
each tells its own when pointed at, touched or tabbed to.</figcaption>
{% endif %}
</figure>
"""


def draw(rows: Sequence[Row], quality: Quality, canvas: Canvas, colours: Mapping[str, int]) -> Markup:
    """Draw rows, all of which have a latency and the quality; ``colours`` are numbers by engine."""
    plot = canvas.plot
    x = latency_scale([p for row in rows for p in _interval(row)], plot.left, plot.right)
    y = _quality_scale(rows, quality, plot)
    largest = max((row.measurement.size_bytes or 0 for row in rows), default=0)
    marks = [_mark(row, quality, canvas, x, y, colours[row.measurement.engine], largest) for row in rows]
    baseline = next((mark for mark in marks if mark.row.is_baseline), None)
    slower = Box(baseline.x, plot.top, plot.right, plot.bottom) if baseline else None
    region = _region_text(slower, canvas, marks) if slower else None
    labelled = _labelled(marks, canvas, region)
    return fill(
        _TEMPLATE,
        canvas=canvas,
        plot=plot,
        marks=labelled,
        unlabelled=sum(mark.label is None for mark in labelled),
        baseline=baseline,
        front=_front(marks),
        slower=slower,
        region=region,
        region_text=_REGION_TEXT,
        x_ticks=[(x(value), f"{value:,g}") for value in x.ticks(canvas.ticks)],
        y_ticks=_percent_ticks(y),
        logarithmic=x.logarithmic,
        tip_line=_TIP_LINE,
        summary=f"{quality.title} of {len(rows)} variants against their latency; the table has every figure",
    )


def shorten(text: str, longest: int) -> str:
    """Cut a text with an ellipsis."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _mark(row: Row, quality: Quality, canvas: Canvas, x: Scale, y: Scale, colour: int, largest: int) -> Mark:
    m, plot = row.measurement, canvas.plot
    claim = _claim(row)
    # Only the best's upright interval is drawn: there would be too many lines.
    value, half = _known(quality, row), (quality.half_width(m) or 0.0) if row.is_best else 0.0
    at_x, at_y = x(claim.ms), y(value)
    tip = _details(row, quality, int((canvas.width - 30) / (_TIP_FONT * _CHARACTER)))
    return Mark(
        row=row,
        x=at_x,
        y=at_y,
        radius=_LARGEST * max(_LEAST, math.sqrt((m.size_bytes or 0) / largest)) if largest else _LARGEST / 2,
        left=x(claim.low_ms),
        right=x(claim.high_ms),
        top=max(plot.top, min(y(value + half), y(value - half))),
        bottom=min(plot.bottom, max(y(value + half), y(value - half))),
        colour=colour,
        lines=(shorten(m.engine, canvas.longest), shorten(m.precision, canvas.longest)),
        tip=tip,
        tip_box=_beside(at_x, at_y, tip, canvas),
    )


def _details(row: Row, quality: Quality, longest: int) -> tuple[str, ...]:
    m = row.measurement
    claim = _claim(row)
    lines = [row.name, milliseconds(claim.ms) + (f", {speed(row.speed)}" if row.speed else "")]
    lines.append(f"95 %: {claim.low_ms:.3g} to {milliseconds(claim.high_ms)}".replace(" %", f"{SPACE}%"))
    if row.latency and row.latency.p90:
        lines.append(f"p90 {milliseconds(row.latency.p90)}")
    lines.append(quality.show(m))
    if (half := quality.half_width(m)) is not None:
        lines.append(f"±{half:.2g}{SPACE}points against the original")
    for value, what in ((m.size_bytes, "file"), (m.peak_memory_bytes, "memory")):
        if (text := megabytes_unit(value)) != DASH:
            lines.append(f"{text} {what}")
    return tuple(shorten(line, longest) for line in lines)


def _beside(x: float, y: float, tip: Sequence[str], canvas: Canvas) -> Box:
    """A box for the details, on the side of the point that has more room, inside the drawing."""
    width = max(map(len, tip)) * _TIP_FONT * _CHARACTER + 22
    height = _TIP_LINE * len(tip) + 14
    left = x + 16 if x < canvas.width / 2 else x - 16 - width
    left = min(max(left, 1), canvas.width - width - 1)
    top = min(max(y - height / 2, 1), canvas.height - height - 1)
    return Box(left, top, left + width, top + height)


def _labelled(marks: Sequence[Mark], canvas: Canvas, region: Box | None) -> list[Mark]:
    """Place the labels, the best's and the baseline's first; one that finds no room stays away."""
    order = sorted(marks, key=lambda m: (not m.row.is_best, not m.row.is_baseline, m.x))
    points = [
        Point(m.x, m.y, m.reach, max(map(len, m.lines)) * canvas.font * _CHARACTER + 2, 2.5 * canvas.font)
        for m in order
    ]
    obstacles = [Box(m.left, m.y - 2, m.right, m.y + 2) for m in order if m.right > m.x + m.reach]
    if region is not None:
        obstacles.append(region)
    plot = canvas.plot
    avoided = [
        line
        for m in order
        if m.row.is_baseline
        for line in (Line(m.x, plot.top, m.x, plot.bottom), Line(plot.left, m.y, plot.right, m.y))
    ]
    places = place_labels(points, plot, obstacles, avoided)
    return [replace(mark, label=place) for mark, place in zip(order, places, strict=True)]


def _region_text(slower: Box, canvas: Canvas, marks: Sequence[Mark]) -> Box | None:
    """Where the shaded region says what it is: a corner of it that is free, if there is one."""
    width, height = len(_REGION_TEXT) * 12 * _CHARACTER, 18.0
    right = slower.right - 6
    for top in (slower.top + 6, slower.bottom - height - 6):
        box = Box(right - width, top, right, top + height)
        if slower.holds(box) and not any(box.meets(Box(m.left, m.y, m.right, m.y), m.reach) for m in marks):
            return box
    return None


def _percent_ticks(y: Scale) -> list[tuple[float, str]]:
    """Pixels and texts, all with as many decimals as the finest needs."""
    values = [value for value in y.ticks(6) if 0 <= value <= 100]
    decimals = max((len(f"{value:g}".partition(".")[2]) for value in values), default=0)
    return [(y(value), f"{value:.{decimals}f}{SPACE}%") for value in values]


def _quality_scale(rows: Sequence[Row], quality: Quality, plot: Box) -> Scale:
    values = [_known(quality, row) for row in rows]
    for row in rows:
        half = quality.half_width(row.measurement) if row.is_best else None
        values += (
            [] if half is None else [max(0.0, _known(quality, row) - half), min(100.0, _known(quality, row) + half)]
        )
    if quality.lower_is_better:
        return Scale(0.0, max(*values, 1e-3) * 1.15, plot.top + 16, plot.bottom)
    # One image more or less must not look like a leap: of 30 it is 3.3 points.
    fewest = min(quality.images(row.measurement) for row in rows)
    return share_scale(values, plot.bottom, plot.top, least=max(1.0, min(200 / max(1, fewest), 100.0)))


def _front(marks: Sequence[Mark]) -> str:
    """The line through those that none beats both in latency and in quality, as a path; empty for fewer than two."""
    best: list[Mark] = []
    for mark in sorted(marks, key=lambda m: (m.x, m.y)):
        if not best or mark.y < best[-1].y:
            best.append(mark)
    if len(best) < 2:
        return ""
    steps = (f"H{m.x:.1f}V{m.y:.1f}" for m in best[1:])
    return f"M{best[0].x:.1f} {best[0].y:.1f}{''.join(steps)}"


def _claim(row: Row) -> LatencyClaim:
    if row.claim is None:
        raise ValueError(f"{row.name} was not timed")
    return row.claim


def _interval(row: Row) -> tuple[float, float]:
    return _claim(row).low_ms, _claim(row).high_ms


def _known(quality: Quality, row: Row) -> float:
    value = quality.value(row.measurement)
    if value is None:
        raise ValueError(f"{row.name} has no {quality.title}")
    return value
