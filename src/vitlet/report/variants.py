"""Section: the table of every variant, those that could not run with the reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup

from vitlet.measure.statistics import MINIMUM_FOR_P99
from vitlet.report.data import ReportData, Row
from vitlet.report.figures import DASH, error_percent, figures, interval, megabytes, percent, speed
from vitlet.report.template import fill


@dataclass(frozen=True)
class Column:
    """A figure of each row as text; ``detail`` is a second, smaller line. ``value`` is what the best of the
    column is found by, and ``more`` says that more of it is better; without one, none is marked.
    """

    name: str
    show: Callable[[Row], str]
    detail: Callable[[Row], str] = lambda row: ""
    value: Callable[[Row], float | None] = lambda row: None
    more: bool = False


@dataclass(frozen=True)
class Heading:
    """Columns under one heading, with their unit."""

    name: str
    unit: str
    columns: tuple[Column, ...]


def _latency(name: str) -> Column:
    def value(row: Row) -> float | None:
        found: float | None = getattr(row.latency, name, None)
        return found

    return Column(name, lambda row: figures(value(row)), value=value)


def _number(
    name: str,
    value: Callable[[Row], float | None],
    show: Callable[[float | None], str] = figures,
    *,
    more: bool = False,
) -> Column:
    return Column(name, lambda row: show(value(row)), value=value, more=more)


def _share(name: str, value: Callable[[Row], float | None], images: Callable[[Row], int]) -> Column:
    return Column(name, lambda row: percent(value(row), images(row)), value=value, more=True)


def _end_to_end(row: Row) -> float | None:
    samples = row.measurement.end_to_end_samples_ms
    return median(samples) if samples else None


_HEADINGS = (
    Heading("Latency", "ms", (_latency("p50"), _latency("p90"), _latency("p99"))),
    Heading("Speed", "95 % interval", (Column("", lambda row: speed(row.speed), lambda row: interval(row.speed)),)),
    Heading("From file", "ms", (_number("", _end_to_end),)),
    Heading("File", "MB", (_number("", lambda row: row.measurement.size_bytes, megabytes),)),
    Heading("Memory", "MB", (_number("", lambda row: row.measurement.peak_memory_bytes, megabytes),)),
    Heading(
        "Accuracy",
        "%",
        (
            _share("top-1", lambda row: row.measurement.top1, lambda row: row.measurement.labelled_images),
            _share("top-5", lambda row: row.measurement.top5, lambda row: row.measurement.labelled_images),
        ),
    ),
    Heading(
        "Same answer", "%", (_share("", lambda row: row.measurement.agreement, lambda row: row.measurement.images),)
    ),
    Heading(
        "Error",
        "%",
        (
            _number("logits", lambda row: row.measurement.logits_error, error_percent),
            _number("calibration", lambda row: row.measurement.calibration_error, error_percent),
        ),
    ),
    Heading(
        "Start",
        "ms",
        (
            _number("load", lambda row: row.measurement.load_ms),
            _number("first image", lambda row: row.measurement.first_ms),
        ),
    ),
    Heading(
        "Throughput",
        "images/s",
        (
            _number("batches", lambda row: row.measurement.throughput_images_per_s, more=True),
            _number("streams", lambda row: row.measurement.streams_images_per_s, more=True),
        ),
    ),
)

_TEMPLATE = """
<section aria-labelledby="variants">
<h2 id="variants">Every variant</h2>
{% if rows %}
<div class="scroll" role="region" aria-labelledby="variants" tabindex="0">
<table class="variants">
<caption class="hidden">What was measured of each variant, by engine</caption>
<thead>
<tr><th scope="col" rowspan="2" class="name">Variant</th>
{% for h in headings %}
{% if h.columns[0].name %}
<th scope="colgroup" colspan="{{ h.columns|length }}">{{ h.name }} <span>{{ h.unit }}</span></th>
{% else %}
<th scope="col" rowspan="2">{{ h.name }} <span>{{ h.unit }}</span></th>
{% endif %}
{% endfor %}
</tr>
<tr>
{% for column in columns if column.name %}<th scope="col">{{ column.name }}</th>{% endfor %}
</tr>
</thead>
{% for engine, members in groups %}
<tbody>
<tr class="group">
<th scope="rowgroup" class="name" colspan="{{ 1 + columns|length }}"><span>{{ engine }}</span></th></tr>
{% for row in members %}
<tr class="{{ classes(row) }}">
<th scope="row" class="name">{{ row.measurement.precision }}
{% for mark in marks(row) %}<span class="chip">{{ mark }}</span>{% endfor %}</th>
{% for column in columns %}
<td><span{% if leads(column, row) %} class="leader-cell"{% endif %}>{{ column.show(row) }}</span>\
{% if column.detail(row) %}<small>{{ column.detail(row) }}</small>{% endif %}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
{% endfor %}
</table>
</div>
{% endif %}
{% if left_out %}<p class="note">{{ left_out|join(" ") }}</p>{% endif %}
{% if absent %}
<h3>Not measured here</h3>
<ul class="absent">
{% for status, reason, names in absent %}
<li><p class="names">{% for name in names %}<code>{{ name }}</code> {% endfor %}
<span class="chip {{ status }}">{{ status }}</span></p>
<p>{{ reason }}</p></li>
{% endfor %}
</ul>
{% endif %}
</section>
"""


def section(data: ReportData) -> Markup:
    """The table, without the columns that nothing was measured for."""
    rows = data.measured
    headings = [heading for heading in (_measured(h, rows) for h in _HEADINGS) if heading.columns]
    columns = [column for heading in headings for column in heading.columns]
    best = {id(column): _best(column, rows) for column in columns}
    return fill(
        _TEMPLATE,
        leads=lambda column, row: best[id(column)] is not None and column.value(row) == best[id(column)],
        rows=rows,
        headings=headings,
        columns=columns,
        groups=_groups(rows),
        marks=lambda row: list(_marks(row)),
        classes=lambda row: " ".join(_classes(row)),
        left_out=_left_out(rows, headings),
        absent=_absent(data.rows),
    )


def _measured(heading: Heading, rows: Sequence[Row]) -> Heading:
    columns = tuple(c for c in heading.columns if any(c.show(row) != DASH for row in rows))
    return Heading(heading.name, heading.unit, columns)


def _best(column: Column, rows: Sequence[Row]) -> float | None:
    """The best value of a column among the rows that are the same model; none where all are alike."""
    values = {value for row in rows if row.verdict != "wrong" and (value := column.value(row)) is not None}
    if len(values) < 2:
        return None
    return max(values) if column.more else min(values)


def _groups(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """The rows by engine; engines and rows in rising order of latency."""
    by_engine: dict[str, list[Row]] = {}
    for row in rows:
        by_engine.setdefault(row.measurement.engine, []).append(row)
    ordered = {engine: sorted(members, key=_p50) for engine, members in by_engine.items()}
    return sorted(ordered.items(), key=lambda group: _p50(group[1][0]))


def _p50(row: Row) -> float:
    return row.latency.p50 if row.latency else math.inf


def _marks(row: Row) -> Iterator[str]:
    if row.is_best:
        yield "best here"
    if row.is_baseline:
        yield "baseline"
    if row.verdict == "slower":
        yield "slower than baseline"
    if row.verdict == "wrong":
        yield "not the same model"
    if row.verdict == "unreliable":
        yield "answers not good enough"
    if row.verdict == "over budget":
        yield "over budget"


def _classes(row: Row) -> Iterator[str]:
    if row.is_best:
        yield "best"
    if row.is_baseline:
        yield "base"
    if row.verdict in ("slower", "wrong", "unreliable", "over budget"):
        yield "warned"


def _left_out(rows: Sequence[Row], headings: Sequence[Heading]) -> list[str]:
    """Why a column that a reader may look for is not there."""
    if not rows:
        return []
    shown = {(heading.name, column.name) for heading in headings for column in heading.columns}
    said = []
    if ("Latency", "p99") not in shown and ("Latency", "p50") in shown:
        said.append(f"p99 is told from {MINIMUM_FOR_P99} timed runs on, which no variant had.")
    if ("Accuracy", "top-1") not in shown:
        said.append("There were no labelled images, so accuracy is not known.")
    batches = sorted({row.measurement.throughput_batch for row in rows if row.measurement.throughput_batch})
    if batches:
        said.append(f"Throughput is at batches of {', '.join(map(str, batches))}; all else is one image at a time.")
    streams = sorted({row.measurement.streams for row in rows if row.measurement.streams})
    if streams:
        said.append(f"Streams are {', '.join(map(str, streams))} sessions at once, each with one thread.")
    said.append("The best figure of a column is underlined.")
    if any(row.measurement.quick for row in rows):
        said.append("This was measured quickly: measure in full before relying on it.")
    return said


def _absent(rows: Sequence[Row]) -> list[tuple[str, str, list[str]]]:
    """Status, reason and the variants it holds for; what could not be run for one reason is told once."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        m = row.measurement
        if m.status != "ok":
            found.setdefault((m.status, m.reason), []).append(row.name)
    return [(status, reason, names) for (status, reason), names in found.items()]
