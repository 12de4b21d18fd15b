"""Section: file size and memory as bars."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from vitlet.report.data import ReportData, Row
from vitlet.report.template import fill
from vitlet.report.tradeoff import engine_colours

_TEMPLATE = """
<section aria-labelledby="weight">
<h2 id="weight">Size and memory</h2>
<div class="pair">
{% for title, explanation, bars in charts %}
<table class="bars">
<caption>{{ title }} <span>{{ explanation }}</span></caption>
<thead class="hidden"><tr><th scope="col">Variant</th><th scope="col">{{ title }}</th></tr></thead>
<tbody>
{% for bar in bars %}
<tr{% if bar.row.is_best %} class="best"{% endif %}>
<th scope="row"><b>{{ bar.row.measurement.engine }}</b> {{ bar.row.measurement.precision }}\
{% if bar.row.is_best %}<span class="chip">best here</span>{% endif %}\
{% if bar.row.is_baseline %}<span class="chip">baseline</span>{% endif %}</th>
<td><svg viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true">\
<rect class="bar c{{ bar.colour }}" width="{{ bar.length|px }}" height="10"/></svg>\
<span>{{ bar.value_bytes|mb_unit }}</span></td>
</tr>
{% endfor %}
</tbody>
</table>
{% endfor %}
</div>
</section>
"""

_CHARTS = (
    ("File", "on disk, all that is needed to run", "size_bytes"),
    ("Peak memory", "above that of the bare runtime", "peak_memory_bytes"),
)


@dataclass(frozen=True)
class Bar:
    """A row's bar; ``length`` is in thousandths of the longest, ``value_bytes`` is ``None`` if not measured."""

    row: Row
    colour: int
    length: float
    value_bytes: int | None


def section(data: ReportData) -> Markup:
    """One bar chart each for what was measured; nothing if neither was."""
    charts = [(title, text, _bars(data, field)) for title, text, field in _CHARTS]
    charts = [chart for chart in charts if any(bar.value_bytes is not None for bar in chart[2])]
    return fill(_TEMPLATE, charts=charts) if charts else Markup()


def _bars(data: ReportData, field: str) -> list[Bar]:
    colours = engine_colours(data)
    values: list[int | None] = [getattr(row.measurement, field) for row in data.measured]
    most = max((value or 0 for value in values), default=0) or 1
    return [
        Bar(row, colours[row.measurement.engine], 1000 * (value or 0) / most, value)
        for row, value in zip(data.measured, values, strict=True)
    ]
