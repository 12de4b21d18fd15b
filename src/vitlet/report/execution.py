"""Section: what each runtime really did, in one form for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vitlet.records import Execution, OperatorUse
from vitlet.report.data import ReportData, Row
from vitlet.report.template import fill

#: From the smallest to the widest; what only moves or converts stands last.
_ORDER = ("int4", "int8", "fp16", "bf16", "fp32", "data")
_WORDS = {"data": "moves and conversions"}

_TEMPLATE = """
<section aria-labelledby="execution">
<h2 id="execution">What the runtimes really did</h2>
<p class="lead">By time where the runtime tells it, else by number of operators. Open a line for its operators.</p>
<ul class="legend flush" aria-label="Legend">
{% for name in shown %}
<li><svg width="12" height="12" aria-hidden="true"><rect class="a-{{ name }}" width="12" height="12"/></svg>\
{{ words.get(name, name) }}</li>
{% endfor %}
</ul>
{% for row, execution, shares, timed in reports %}
<details class="execution">
<summary><span><b>{{ row.measurement.engine }}</b> {{ row.measurement.precision }}</span>
<span><svg viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true">\
{% for share in shares %}\
<rect class="a-{{ share.arithmetic }}" x="{{ share.start|px }}" width="{{ share.length|px }}" height="10"/>\
{% endfor %}</svg>
<span class="facts-line">{% for share in shares %}{{ words.get(share.arithmetic, share.arithmetic) }} \
{{ "%.0f"|format(share.length / 10) }} %{{ ", " if not loop.last }}{% endfor %}\
{{ "" if timed else " of the operators" }}\
{% for f in execution.fusions %}; {{ f.what }} fused {{ f.done }} of {{ f.of }}{% endfor %}</span></span></summary>
{% if execution.notes or execution.undelegated %}
<ul>
{% for note in execution.notes %}<li>{{ note }}</li>{% endfor %}
{% if execution.undelegated %}<li>Not delegated: {% for name, count in execution.undelegated.items() %}\
{{ count }} × {{ name }}{{ ", " if not loop.last }}{% endfor %}.</li>{% endif %}
</ul>
{% endif %}
<table><thead><tr><th scope="col">Operator</th><th scope="col">arithmetic</th><th scope="col">number</th>\
{% if timed %}<th scope="col">ms an image</th>{% endif %}</tr></thead>
<tbody>
{% for one in execution.operators %}
<tr><th scope="row">{{ one.name }}</th><td>{{ words.get(one.arithmetic, one.arithmetic) }}</td><td>{{ one.count }}</td>\
{% if timed %}<td>{{ one.time_ms|figures }}</td>{% endif %}</tr>
{% endfor %}
</tbody></table>
<p class="note">{{ execution.source }}</p>
</details>
{% endfor %}
</section>
"""


@dataclass(frozen=True)
class Share:
    """A piece of a bar, in thousandths."""

    arithmetic: str
    start: float
    length: float


def section(data: ReportData) -> Markup:
    """A bar for each variant whose runtime told something; nothing if none did."""
    told = [(row, row.measurement.execution) for row in data.measured if row.measurement.execution]
    told = [(row, execution) for row, execution in told if execution is not None and execution.operators]
    reports = [(row, execution, _shares(execution.operators), _is_timed(execution)) for row, execution in _sorted(told)]
    present = {share.arithmetic for _, _, shares, _ in reports for share in shares}
    shown = [name for name in _ORDER if name in present]
    return fill(_TEMPLATE, reports=reports, shown=shown, words=_WORDS) if reports else Markup()


def _sorted(told: Sequence[tuple[Row, Execution | None]]) -> list[tuple[Row, Execution]]:
    """Fastest first."""
    known = [(row, execution) for row, execution in told if execution is not None]
    return sorted(known, key=lambda pair: pair[0].latency.p50 if pair[0].latency else float("inf"))


def _is_timed(execution: Execution) -> bool:
    return any(one.time_ms for one in execution.operators)


def _shares(operators: Sequence[OperatorUse]) -> list[Share]:
    timed = any(one.time_ms for one in operators)
    weights = dict.fromkeys(_ORDER, 0.0)
    for one in operators:
        weights[one.arithmetic] += (one.time_ms or 0.0) if timed else one.count
    total = sum(weights.values())
    shares, start = [], 0.0
    for name, weight in weights.items():
        if weight:
            shares.append(Share(name, start, 1000 * weight / total))
            start += 1000 * weight / total
    return shares
