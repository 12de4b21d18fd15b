"""The page of ``vitlet inspect``: what int8 costs each operation, what its inputs are like, where the model looks."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from vitlet.bundle.manifest import Images
from vitlet.certify.inspection import Inspection, ranked
from vitlet.measure.operation_times import OperationTimes
from vitlet.records import Environment
from vitlet.report import activations, attention, sensitivity
from vitlet.report.figures import error_percent, figures, when
from vitlet.report.page import document
from vitlet.report.template import fill


@dataclass(frozen=True)
class InspectionData:
    """Everything that the page may say."""

    reference: str
    created: str
    vitlet_version: str
    environment: Environment
    images: Images
    inspection: Inspection
    times: OperationTimes
    command: str = ""
    random_weights: bool = False


_HEADER = """
<header>
<p class="brand">vitlet <span>inspect</span></p>
<h1>{{ d.reference }}</h1>
<p class="meta"><span>{{ found.precision }}, simulated</span> <span>{{ "{:,}".format(d.images.count) }} images</span> \
<span>{{ created }}</span> <span>vitlet {{ d.vitlet_version }}</span></p>
</header>
<section class="verdict" aria-label="Summary">
<p class="headline">All {{ found.operations|length }} operations in int8 together: \
{{ "{:,}".format(found.together.changed) }} of {{ "{:,}".format(found.together.images) }} answers change, \
and the logits move by {{ found.together.logits_error|error_pc }}{{ "\u00a0%" if found.together.logits_error }}.</p>
<ul class="sentences">
{% for sentence in sentences %}<li>{{ sentence }}</li>{% endfor %}
</ul>
</section>
"""

_FOOT = """
<section aria-labelledby="how">
<h2 id="how">How this was found</h2>
<dl class="facts">
<div><dt>Simulated</dt><dd>One operation at a time is rounded to 8 bits, in float32 arithmetic: its weights symmetric \
by output channel, its input activations with 256 levels over \
{{ "the range that other images showed" if static else "each image's own range" }} (lowest to highest value, nothing \
cut off). All else stays float32. No runtime rounds in exactly this way; for what one really loses, use \
<code>vitlet bench</code>.</dd></div>
<div><dt>Divergence</dt><dd>Kullback-Leibler divergence of the probabilities from the float model's, mean over the \
images, in millionths of a nat. Operations are ranked by it.</dd></div>
<div><dt>Logits error</dt><dd>Length of the change of the logits over their length.</dd></div>
<div><dt>SQNR</dt><dd>Energy of the operation's own result over that of the rounding noise in it, in decibels: 10 dB \
less is ten times the noise.</dd></div>
<div><dt>Time saved</dt><dd>{{ times }}</dd></div>
<div><dt>Images</dt><dd>{{ "{:,}".format(d.images.count) }} answered\
{% if d.images.skipped_count %}, {{ "{:,}".format(d.images.skipped_count) }} left out{% endif %}\
{% if d.images.note %}; {{ d.images.note }}{% endif %}</dd></div>
<div><dt>Machine</dt><dd>{{ d.environment.processor }}, {{ d.environment.threads }} \
thread{{ "s" if d.environment.threads != 1 }}; {{ d.environment.system }}</dd></div>
</dl>
{% if d.command %}<pre tabindex="0" aria-label="Command"><code>{{ d.command }}</code></pre>{% endif %}
</section>
"""


def render_inspection(data: InspectionData) -> str:
    """One HTML 5 document that opens offline, loads nothing and runs nothing; all text from outside is escaped."""
    found = data.inspection.sensitivities
    pieces = [
        fill(_HEADER, d=data, found=found, created=when(data.created), sentences=_sentences(data)),
        sensitivity.section(found, data.times),
        activations.section(found),
        attention.section(data.inspection),
        _foot(data),
    ]
    return document(f"{data.reference}: vitlet inspect", data.vitlet_version, pieces, "inspection.css")


def _sentences(data: InspectionData) -> list[str]:
    found = data.inspection.sensitivities
    first, *others = ranked(found)
    changed = {0: "no answer", 1: "1 answer"}.get(first.cost.changed, f"{first.cost.changed} answers")
    sentences = [
        f"{first.operation.name} is the most sensitive operation: alone in int8 it moves the logits by "
        f"{error_percent(first.cost.logits_error)} % and changes {changed}."
    ]
    if others:
        sentences.append(f"Next come {', '.join(one.operation.name for one in others[:3])}.")
    outliers = [one for one in found.inputs if one.outlier_channels]
    if outliers:
        most = max(outliers, key=lambda one: max(one.channel_maxima) / one.median_channel)
        times = max(most.channel_maxima) / most.median_channel
        sentences.append(
            f"{len(outliers)} of {len(found.inputs)} inputs have outlier channels; the largest stands in the "
            f"{most.name} of {most.operation}, {figures(times)} times the median channel."
        )
    else:
        sentences.append("No input has an outlier channel.")
    if data.random_weights:
        sentences.append("The weights are random, so the answers mean nothing.")
    return sentences


def _foot(data: InspectionData) -> Markup:
    times = data.times
    told = "Median time of the operation's nodes in fp32 less that in int8"
    text = f"Not told: {times.reason}." if not times.times else f"{told} ({times.source})."
    static = data.inspection.sensitivities.precision == "int8-static"
    return fill(_FOOT, d=data, times=text, static=static)
