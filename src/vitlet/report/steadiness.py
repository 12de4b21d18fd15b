"""Section: every timed run, visit by visit, so that noise and drift can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from vitlet.report.data import ReportData, Row
from vitlet.report.figures import SPACE
from vitlet.report.template import fill
from vitlet.report.tradeoff import engine_colours

#: Columns of a histogram, and the height that its fullest one has.
_BINS = 60
_HEIGHT = 20
#: Runs this far from the variant's own median are shown at the edge.
_NARROWEST, _WIDEST = 0.1, 1.0

_TEMPLATE = """
<section aria-labelledby="steadiness">
<h2 id="steadiness">How steady it was</h2>
<p class="lead">Every timed run, one strip for each visit by a fresh process, against the variant's own median. \
Narrow strips that agree mean figures to rely on.</p>
<table class="strips">
<caption class="hidden">Timed runs and medians by visit</caption>
<thead><tr><th scope="col">Variant</th>
<th scope="col"><span class="scale"><span>{{ low }}</span><span>median</span><span>{{ high }}</span></span></th>
<th scope="col" class="number">Runs</th></tr></thead>
<tbody>
{% for row, colour, visits in rows %}
<tr><th scope="row"><b>{{ row.measurement.engine }}</b> {{ row.measurement.precision }}</th>
<td>{% for visit in visits %}<svg viewBox="0 0 {{ bins }} {{ height }}" preserveAspectRatio="none" role="img" \
aria-label="visit {{ loop.index }}: median {{ visit.median|ms }}">\
<title>visit {{ loop.index }}: {{ visit.runs }} runs, median {{ visit.median|ms }}, \
{{ visit.least|ms }} to {{ visit.most|ms }}</title>\
<path class="grid" d="M{{ bins / 2 }} 0V{{ height }}"/><path class="strip c{{ colour }}" d="{{ visit.path }}"/></svg>\
{% endfor %}</td>
<td class="number">{{ row.latency.n }}</td></tr>
{% endfor %}
</tbody>
</table>
<p class="note">Runs beyond an edge are counted in its last column.</p>
</section>
"""


@dataclass(frozen=True)
class Visit:
    """One process's runs; ``path`` is their histogram."""

    runs: int
    median: float
    least: float
    most: float
    path: str


def section(data: ReportData) -> Markup:
    """A strip for each visit to each variant; nothing if nothing was timed."""
    timed = [row for row in data.measured if row.latency]
    if not timed:
        return Markup()
    reach = _reach(timed)
    colours = engine_colours(data)
    rows = [(row, colours[row.measurement.engine], _visits(row, reach)) for row in timed]
    low, high = (f"{sign}{100 * reach:.0f}{SPACE}%" for sign in "−+")
    return fill(_TEMPLATE, rows=rows, low=low, high=high, bins=_BINS, height=_HEIGHT)


def _reach(rows: Sequence[Row]) -> float:
    """How far from the median the strips go either way: to where almost all runs of most variants lie."""
    far = [
        abs(s / row.latency.p50 - 1)
        for row in rows
        if row.latency
        for v in row.measurement.latency_samples_ms
        for s in v
    ]
    wanted = float(np.quantile(far, 0.98))
    return min(max(np.ceil(wanted * 20) / 20, _NARROWEST), _WIDEST)


def _visits(row: Row, reach: float) -> list[Visit]:
    if row.latency is None:
        return []
    return [
        _visit(np.asarray(samples), row.latency.p50, reach) for samples in row.measurement.latency_samples_ms if samples
    ]


def _visit(samples: np.ndarray, centre: float, reach: float) -> Visit:
    """samples: milliseconds [runs]."""
    inside = np.clip(samples / centre - 1, -reach, reach)
    counts, _ = np.histogram(inside, bins=_BINS, range=(-reach, reach))
    heights = np.where(counts > 0, np.maximum(counts / counts.max() * _HEIGHT, 1.5), 0)
    columns = [f"M{i} {_HEIGHT}v-{h:.1f}h1V{_HEIGHT}z" for i, h in enumerate(heights) if h > 0]
    return Visit(len(samples), float(np.median(samples)), float(samples.min()), float(samples.max()), "".join(columns))
