"""Section: what quantizing each operation alone costs, as a map of the model and as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vitlet.certify.inspection import Sensitivities, Sensitivity, ranked
from vitlet.measure.operation_times import OperationTimes
from vitlet.report.figures import DASH, figures
from vitlet.report.template import fill

#: Rows of the table that are open from the start.
_OPEN = 15
#: The faintest cell, and the most decades that the colours span.
_FAINTEST, _DECADES = 0.06, 3.0
#: Columns wider than this have room for their figure.
_ROOM = 44

_TEMPLATE = """
<section aria-labelledby="sensitivity">
<h2 id="sensitivity">What each operation costs in int8</h2>
<p class="lead">Each alone in int8, all else in float: the divergence of the answers, in millionths of a nat. \
Stronger colours cost more, by logarithm.</p>
{% for map in maps %}
<figure class="{{ map.name }}">
<svg class="plot" viewBox="0 0 {{ map.width }} {{ map.height }}" role="img" aria-label="{{ map.summary }}">
{% for text in map.across %}<text{% if text.turned %} transform="rotate(-90 {{ text.x|px }} {{ text.y|px }})"\
{% else %} class="middle"{% endif %} x="{{ text.x|px }}" y="{{ text.y|px }}">{{ text.text }}</text>{% endfor %}
{% for text in map.down %}<text class="end" x="{{ text.x|px }}" y="{{ text.y|px }}">{{ text.text }}</text>{% endfor %}
{% for cell in map.cells %}
<g><title>{{ cell.title }}</title>\
<rect class="cell" x="{{ cell.x|px }}" y="{{ cell.y|px }}" width="{{ cell.width|px }}" height="{{ cell.height|px }}"/>\
<rect class="heat" x="{{ cell.x|px }}" y="{{ cell.y|px }}" width="{{ cell.width|px }}" height="{{ cell.height|px }}" \
fill-opacity="{{ "%.2f"|format(cell.strength) }}"/>\
{% if cell.text %}<text class="middle{{ " on" if cell.strength > 0.55 }}" x="{{ (cell.x + cell.width / 2)|px }}" \
y="{{ (cell.y + cell.height / 2 + 4)|px }}">{{ cell.text }}</text>{% endif %}</g>
{% endfor %}
</svg>
</figure>
{% endfor %}
{% for rows in tables if rows %}
{% if loop.index == 2 %}<details><summary>{{ rows|length }} operations more</summary>{% endif %}
<div class="scroll" tabindex="0" role="region" aria-label="Operations">
<table class="variants operations">
<caption class="hidden">Operations, the most sensitive first</caption>
<thead><tr><th scope="col" class="name">Operation</th><th scope="col">Divergence<span>10⁻⁶ nat</span></th>
<th scope="col">Logits error<span>%</span></th><th scope="col">Changed<span>of {{ images }}</span></th>
<th scope="col">SQNR<span>dB</span></th><th scope="col">MACs<span>million</span></th>
<th scope="col">Weights<span>MB in fp32</span></th><th scope="col">Saved<span>ms an image</span></th></tr></thead>
<tbody>
{% for row in rows %}
<tr><th scope="row" class="name">{{ row.one.operation.name }}</th>
<td class="bar-cell"><svg viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true">\
<rect class="bar c2" width="{{ row.length|px }}" height="10"/></svg><span>{{ row.divergence }}</span></td>
<td>{{ row.one.cost.logits_error|error_pc }}</td><td>{{ row.one.cost.changed }}</td>
<td>{{ row.one.sqnr_db|figures }}</td><td>{{ row.macs|figures }}</td>
<td>{{ row.one.operation.weight_bytes|mb if row.one.operation.weight_bytes else dash }}</td>
<td>{{ row.saved|figures }}</td></tr>
{% endfor %}
</tbody></table></div>
{% if loop.index == 2 %}</details>{% endif %}
{% endfor %}
{% if not_timed %}<p class="note">No times: {{ not_timed }}.</p>{% endif %}
<h3>All of a kind together</h3>
<table class="kinds">
<caption class="hidden">Costs of quantizing all operations of a kind, and all operations</caption>
<thead><tr><th scope="col">Operations</th><th scope="col">Divergence, 10⁻⁶ nat</th><th scope="col">Logits error, %</th>\
<th scope="col">Answers changed</th></tr></thead>
<tbody>
{% for name, cost in kinds %}
<tr{% if loop.last %} class="all"{% endif %}><th scope="row">{{ name }}</th>\
<td>{{ millionths(cost.kl_divergence) }}</td><td>{{ cost.logits_error|error_pc }}</td><td>{{ cost.changed }}</td></tr>
{% endfor %}
</tbody></table>
</section>
"""


@dataclass(frozen=True)
class Row:
    """A line of the table; ``length`` of its bar is in thousandths of the longest, ``macs`` in millions."""

    one: Sensitivity
    length: float
    divergence: str
    macs: float
    saved: float | None


@dataclass(frozen=True)
class Text:
    x: float
    y: float
    text: str
    turned: bool = False


@dataclass(frozen=True)
class Cell:
    x: float
    y: float
    width: float
    height: float
    strength: float
    text: str
    title: str


@dataclass(frozen=True)
class HeatMap:
    """A drawing of the model, ``across`` and ``down`` its headings."""

    name: str
    width: float
    height: float
    across: tuple[Text, ...]
    down: tuple[Text, ...]
    cells: tuple[Cell, ...]
    summary: str


def section(found: Sensitivities, times: OperationTimes) -> Markup:
    """Map and tables; a model without numbered blocks has no map."""
    rows = [_row(one, ranked(found)[0], times) for one in ranked(found)]
    grid = _grid(found)
    kinds = [(one.kind, one.cost) for one in found.kinds]
    return fill(
        _TEMPLATE,
        maps=[_wide(grid, found), _narrow(grid, found)] if grid else [],
        tables=(rows[:_OPEN], rows[_OPEN:]),
        images=found.together.images,
        not_timed=times.reason if not times.times else "",
        kinds=[*kinds, ("all of them", found.together)],
        millionths=millionths,
        dash=DASH,
    )


def millionths(nats: float) -> str:
    """A divergence in millionths of a nat."""
    return figures(1e6 * nats)


def _row(one: Sensitivity, worst: Sensitivity, times: OperationTimes) -> Row:
    most = worst.cost.kl_divergence or 1.0
    took = times.times.get(one.operation.name)
    divergence = one.cost.kl_divergence
    saved = None if took is None else took.saved_ms
    return Row(one, 1000 * divergence / most, millionths(divergence), one.operation.macs / 1e6, saved)


def _grid(found: Sensitivities) -> dict[tuple[str, int], Sensitivity]:
    """(kind, column) -> operation; the blocks are columns from 1 on, what comes before them is in column 0 and what
    comes after them in the last. Empty without blocks."""
    blocks = [one.operation.block for one in found.operations if one.operation.block is not None]
    if not blocks:
        return {}
    last, grid, begun = max(blocks) + 2, dict[tuple[str, int], Sensitivity](), False
    for one in found.operations:
        begun = begun or one.operation.block is not None
        place = one.operation.block + 1 if one.operation.block is not None else last if begun else 0
        grid[one.operation.kind, place] = one
    return grid


def _wide(grid: dict[tuple[str, int], Sensitivity], found: Sensitivities) -> HeatMap:
    """Kinds downwards, blocks across."""
    kinds, columns = _axes(grid)
    width, left, top, height = 1120.0, 132.0, 30.0, 30.0
    step = (width - left) / len(columns)
    across = tuple(Text(left + (i + 0.5) * step, 18, text) for i, text in enumerate(columns))
    down = tuple(Text(left - 10, top + (i + 0.5) * height + 4, kind) for i, kind in enumerate(kinds))
    cells = [
        _cell(one, left + place * step, top + kinds.index(kind) * height, step, height, step > _ROOM, found)
        for (kind, place), one in grid.items()
    ]
    return HeatMap("wide", width, top + height * len(kinds) + 4, across, down, tuple(cells), _summary(found))


def _narrow(grid: dict[tuple[str, int], Sensitivity], found: Sensitivities) -> HeatMap:
    """Blocks downwards, kinds across, for a phone."""
    kinds, columns = _axes(grid)
    width, left, top, height = 358.0, 44.0, 124.0, 22.0
    step = (width - left) / len(kinds)
    across = tuple(Text(left + (i + 0.5) * step + 4, top - 6, text, turned=True) for i, text in enumerate(kinds))
    down = tuple(Text(left - 8, top + (i + 0.5) * height + 4, text) for i, text in enumerate(columns))
    cells = [
        _cell(one, left + kinds.index(kind) * step, top + place * height, step, height, False, found)
        for (kind, place), one in grid.items()
    ]
    return HeatMap("narrow", width, top + height * len(columns) + 4, across, down, tuple(cells), _summary(found))


def _axes(grid: dict[tuple[str, int], Sensitivity]) -> tuple[list[str], list[str]]:
    kinds = list(dict.fromkeys(kind for kind, _ in grid))
    last = max(place for _, place in grid)
    return kinds, ["in", *map(str, range(last - 1)), "out"]


def _cell(
    one: Sensitivity, x: float, y: float, width: float, height: float, has_room: bool, found: Sensitivities
) -> Cell:
    divergence = one.cost.kl_divergence
    title = f"{one.operation.name}: {millionths(divergence)} millionths of a nat, {one.cost.changed} answers changed"
    text = _short(1e6 * divergence) if has_room else ""
    strength = _strength(divergence, [each.cost.kl_divergence for each in found.operations])
    return Cell(x + 1, y + 1, width - 2, height - 2, strength, text, title)


def _short(value: float) -> str:
    """Two significant figures, in little room."""
    if value < 0.1:
        return f"{value:.2f}" if value >= 0.005 else "0"
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def _strength(value: float, all_values: Sequence[float]) -> float:
    """The opacity of a cell: 1 for the largest, by logarithm down to ``_DECADES`` below it."""
    most = max(all_values)
    if value <= 0 or most <= 0:
        return _FAINTEST
    return max(_FAINTEST, 1 + math.log10(value / most) / _DECADES)


def _summary(found: Sensitivities) -> str:
    worst = ranked(found)[0].operation.name
    return f"Divergence by kind of operation and block; the largest is that of {worst}; the table has every figure"
