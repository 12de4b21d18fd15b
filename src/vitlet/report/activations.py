"""Section: the ranges that activations span, and the channels that stand out of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vitlet.certify.inspection import OUTLIER_RATIO, InputStatistics, Sensitivities
from vitlet.report.figures import DASH, figures
from vitlet.report.scale import Scale
from vitlet.report.template import fill

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 530.0, 150.0, 46.0, 22.0
#: Outlier channels that are named.
_NAMED = 12
_OUTSIDE = "before and after the blocks"

_TEMPLATE = """
<section aria-labelledby="activations">
<h2 id="activations">Ranges of activations</h2>
<p class="lead">What came to each kind of operation in the float model, block by block. Light: from the lowest to the \
highest value, which 256 levels have to cover. Dark: where 99.9 % of the values lie. The further apart, the more \
levels go to a few values. A ring marks inputs with outlier channels: larger than {{ ratio }} times the median \
channel.</p>
<div class="pair ranges">
{% for chart in charts %}
<figure>
<figcaption><b>{{ chart.kind }}</b> {{ chart.input if chart.input != "input" }}</figcaption>
<svg class="plot" viewBox="0 0 {{ width }} {{ height }}" role="img" aria-label="{{ chart.summary }}">
{% for y, text in chart.ticks %}
<path class="grid" d="M{{ left }} {{ y|px }}H{{ width }}"/>\
<text class="end" x="{{ left - 6 }}" y="{{ (y + 4)|px }}">{{ text }}</text>
{% endfor %}
{% for bar in chart.bars %}
<g><title>{{ bar.title }}</title>\
<rect class="range" x="{{ bar.x|px }}" y="{{ bar.top|px }}" width="{{ bar.width|px }}" height="{{ bar.height|px }}"/>\
<rect class="most" x="{{ bar.x|px }}" y="{{ bar.most_top|px }}" width="{{ bar.width|px }}" \
height="{{ bar.most_height|px }}"/>\
{% if bar.has_outliers %}<circle class="ring" cx="{{ (bar.x + bar.width / 2)|px }}" cy="{{ (bar.top - 7)|px }}" r="4"/>\
{% endif %}{% if bar.label %}<text class="middle" x="{{ (bar.x + bar.width / 2)|px }}" y="{{ height - 6 }}">\
{{ bar.label }}</text>{% endif %}</g>
{% endfor %}
</svg>
</figure>
{% endfor %}
</div>
<details{{ " open" if outliers and outliers|length <= 12 }}>
<summary>{{ outliers|length }} of {{ inputs|length }} inputs with outlier channels</summary>
{% if outliers %}
<div class="scroll" tabindex="0" role="region" aria-label="Outlier channels">
<table class="variants"><caption class="hidden">Outlier channels</caption>
<thead><tr><th scope="col" class="name">Input</th><th scope="col">Largest</th><th scope="col">Median channel</th>\
<th scope="col">Channels</th><th scope="col" class="indices">Which, largest first</th></tr></thead>
<tbody>
{% for one in outliers %}
<tr><th scope="row" class="name">{{ one.operation }}{{ " " ~ one.name if one.name != "input" }}</th>
<td>{{ one.channel_maxima|max|figures }}</td><td>{{ one.median_channel|figures }}</td>
<td>{{ one.outlier_channels|length }} of {{ one.channel_maxima|length }}</td>
<td class="indices">{{ one.outlier_channels[:named]|join(", ") }}\
{{ ", …" if one.outlier_channels|length > named }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endif %}
</details>
<details>
<summary>Every range</summary>
<div class="scroll" tabindex="0" role="region" aria-label="Ranges">
<table class="variants"><caption class="hidden">Ranges of all inputs</caption>
<thead><tr><th scope="col" class="name">Input</th><th scope="col">Lowest</th><th scope="col">Highest</th>\
<th scope="col">99.9 % within</th><th scope="col">Median channel</th></tr></thead>
<tbody>
{% for one in inputs %}
<tr><th scope="row" class="name">{{ one.operation }}{{ " " ~ one.name if one.name != "input" }}</th>
<td>{{ one.minimum|figures }}</td><td>{{ one.maximum|figures }}</td><td>±{{ one.magnitude_999|figures }}</td>
<td>{{ one.median_channel|figures if one.channel_maxima else dash }}</td></tr>
{% endfor %}
</tbody></table></div>
</details>
</section>
"""


@dataclass(frozen=True)
class Bar:
    """One input: its whole range, and in pixels also where most values lie."""

    x: float
    width: float
    top: float
    height: float
    most_top: float
    most_height: float
    has_outliers: bool
    label: str
    title: str


@dataclass(frozen=True)
class Chart:
    """All inputs of one name to one kind of operation, in the order of the model."""

    kind: str
    input: str
    ticks: tuple[tuple[float, str], ...]
    bars: tuple[Bar, ...]
    summary: str


def section(found: Sensitivities) -> Markup:
    """A small chart for each kind of input, and tables."""
    operations = {one.operation.name: one.operation for one in found.operations}
    has_blocks = any(operation.block is not None for operation in operations.values())
    groups: dict[tuple[str, str], list[InputStatistics]] = {}
    for one in found.inputs:
        operation = operations[one.operation]
        outside = has_blocks and operation.block is None
        group = (_OUTSIDE, one.name) if outside else (operation.kind, one.name)
        groups.setdefault(group, []).append(one)
    labels = {
        name: str(operation.block) if operation.block is not None else operation.kind if has_blocks else ""
        for name, operation in operations.items()
    }
    return fill(
        _TEMPLATE,
        charts=[_chart(kind, name, inputs, labels) for (kind, name), inputs in groups.items()],
        outliers=[one for one in found.inputs if one.outlier_channels],
        inputs=found.inputs,
        ratio=f"{OUTLIER_RATIO:g}",
        named=_NAMED,
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        dash=DASH,
    )


def _chart(kind: str, name: str, inputs: Sequence[InputStatistics], labels: Mapping[str, str]) -> Chart:
    low, high = min(0.0, *(one.minimum for one in inputs)), max(0.0, *(one.maximum for one in inputs))
    scale = Scale(low, high if high > low else low + 1, _HEIGHT - _BOTTOM, 16)
    step = (_WIDTH - _LEFT) / len(inputs)
    # Labels need some 20 pixels each.
    every = max(1, -(-len(inputs) * 20 // int(_WIDTH - _LEFT)))
    bars = []
    for place, one in enumerate(inputs):
        width = min(step * 0.7, 40.0)
        x = _LEFT + (place + 0.5) * step - width / 2
        top, bottom = scale(max(one.maximum, 0.0)), scale(min(one.minimum, 0.0))
        inner_top = scale(min(max(one.maximum, 0.0), one.magnitude_999))
        inner_bottom = scale(max(min(one.minimum, 0.0), -one.magnitude_999))
        label = "" if place % every else labels[one.operation]
        title = (
            f"{one.operation}: {figures(one.minimum)} to {figures(one.maximum)}, 99.9 % within "
            f"±{figures(one.magnitude_999)}, {len(one.outlier_channels)} outlier channels"
        )
        sizes = (top, bottom - top, inner_top, inner_bottom - inner_top)
        bars.append(Bar(x, width, *sizes, bool(one.outlier_channels), label, title))
    ticks = tuple((scale(value), f"{value:,g}") for value in scale.ticks(5))
    summary = f"Ranges of {len(inputs)} inputs ({kind}, {name}), {figures(low)} to {figures(high)}"
    return Chart(kind, name, ticks, tuple(bars), summary)
