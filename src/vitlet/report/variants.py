"""Section: the table of every variant, those that could not run with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from vitlet.measure.statistics import MINIMUM_FOR_P99
from vitlet.report.data import ReportData, Row
from vitlet.report.figures import DASH, error_percent, figures, interval, megabytes, percent, speed
from vitlet.report.template import fill


@dataclass(frozen=True)
class Column:
    """A figure of each row as text; ``detail`` is a second, smaller line."""

    name: str
    show: Callable[[Row], str]
    detail: Callable[[Row], str] = lambda row: ""


@dataclass(frozen=True)
class Heading:
    """Columns under one heading, with their unit."""

    name: str
    unit: str
    columns: tuple[Column, ...]


_HEADINGS = (
    Heading(
        "Latency",
        "ms",
        (
            Column("p50", lambda row: figures(row.latency.p50 if row.latency else None)),
            Column("p90", lambda row: figures(row.latency.p90 if row.latency else None)),
            Column("p99", lambda row: figures(row.latency.p99 if row.latency else None)),
        ),
    ),
    Heading("Speed", "95 % interval", (Column("", lambda row: speed(row.speed), lambda row: interval(row.speed)),)),
    Heading("File", "MB", (Column("", lambda row: megabytes(row.measurement.size_bytes)),)),
    Heading("Memory", "MB", (Column("", lambda row: megabytes(row.measurement.peak_memory_bytes)),)),
    Heading(
        "Accuracy",
        "%",
        (
            Column("top-1", lambda row: percent(row.measurement.top1, row.measurement.labelled_images)),
            Column("top-5", lambda row: percent(row.measurement.top5, row.measurement.labelled_images)),
        ),
    ),
    Heading("Same answer", "%", (Column("", lambda row: percent(row.measurement.agreement, row.measurement.images)),)),
    Heading("Logits error", "%", (Column("", lambda row: error_percent(row.measurement.logits_error)),)),
    Heading(
        "Start",
        "ms",
        (
            Column("load", lambda row: figures(row.measurement.load_ms)),
            Column("first image", lambda row: figures(row.measurement.first_ms)),
        ),
    ),
    Heading("Throughput", "images/s", (Column("", lambda row: figures(row.measurement.throughput_images_per_s)),)),
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
<td>{{ column.show(row) }}{% if column.detail(row) %}<small>{{ column.detail(row) }}</small>{% endif %}</td>
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
    return fill(
        _TEMPLATE,
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


def _groups(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """The rows by engine, engines in order of appearance, also where they come mixed."""
    order = list(dict.fromkeys(row.measurement.engine for row in rows))
    by_engine = sorted(rows, key=lambda row: order.index(row.measurement.engine))
    return [(engine, list(members)) for engine, members in groupby(by_engine, lambda row: row.measurement.engine)]


def _marks(row: Row) -> Iterator[str]:
    if row.is_best:
        yield "best here"
    if row.is_baseline:
        yield "baseline"
    if row.verdict == "slower":
        yield "slower than baseline"
    if row.verdict == "unreliable":
        yield "answers not good enough"


def _classes(row: Row) -> Iterator[str]:
    if row.is_best:
        yield "best"
    if row.is_baseline:
        yield "base"
    if row.verdict in ("slower", "unreliable"):
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
