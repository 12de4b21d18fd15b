"""Section: the images that were used, and whether vitlet's path agrees with the source library's."""

from __future__ import annotations

from markupsafe import Markup

from vitlet.records import ImageSpec, Parity
from vitlet.report.data import ReportData
from vitlet.report.figures import figures
from vitlet.report.template import fill

#: Skipped files that are named; the manifest names more.
_NAMED = 20

_TEMPLATE = """
<section aria-labelledby="checks">
<h2 id="checks">Images and checks</h2>
<dl class="facts">
<div><dt>Images</dt><dd>
{% if images.count %}{{ "{:,}".format(images.count) }} used, {{ "{:,}".format(images.labelled) }} of them with a label\
{% elif random_inputs %}none: {{ random_inputs }} random inputs stood in, so answers mean nothing beyond numeric error\
{% else %}none{% endif %}
{% if images.skipped_count %}; {{ "{:,}".format(images.skipped_count) }} left out{% endif %}
{% if images.note %}<br>{{ images.note }}{% endif %}
</dd></div>
{% if images.digest %}
<div><dt>Their pixels</dt><dd>SHA-256 <code class="hash">{{ images.digest }}</code></dd></div>
{% endif %}
{% if spec %}
<div><dt>Preprocessing</dt><dd>{{ resize }}, then the centre {{ spec.height }} × {{ spec.width }} pixels; \
mean {{ spec.mean|join(", ") }}, deviation {{ spec.std|join(", ") }}</dd></div>
{% endif %}
{% if parity %}
<div><dt>Check against {{ parity.library }}</dt><dd>
{% for text in parity_texts %}{{ text }}{{ "<br>"|safe if not loop.last }}{% endfor %}
</dd></div>
{% endif %}
{% if note %}<div><dt>Loading</dt><dd>{{ note }}</dd></div>{% endif %}
</dl>
{% if images.skipped %}
<details{{ " open" if images.skipped|length <= 5 }}>
<summary>{{ "{:,}".format(images.skipped_count) }} file{{ "s" if images.skipped_count != 1 }} left out</summary>
<dl class="skipped">
{% for skipped in images.skipped[:named] %}
<div><dt><bdi>{{ skipped.name }}</bdi></dt><dd>{{ skipped.reason }}</dd></div>
{% endfor %}
</dl>
{% if images.skipped_count > named %}<p class="note">and {{ "{:,}".format(images.skipped_count - named) }} more; \
the manifest names the first {{ images.skipped|length }}.</p>{% endif %}
</details>
{% endif %}
</section>
"""


def section(data: ReportData) -> Markup:
    """What the measurements saw, and the parity check."""
    spec, parity = data.image_spec, data.parity
    return fill(
        _TEMPLATE,
        images=data.images,
        random_inputs=max((m.random_inputs for m in data.measurements), default=0),
        spec=spec,
        resize=_resize(spec) if spec else "",
        parity=parity,
        parity_texts=_parity(parity) if parity else [],
        note=data.note,
        named=_NAMED,
    )


def _resize(spec: ImageSpec) -> str:
    if isinstance(spec.resize, int):
        return f"shorter edge to {spec.resize} pixels ({spec.interpolation})"
    return f"to {spec.resize[0]} × {spec.resize[1]} pixels ({spec.interpolation})"


def _parity(parity: Parity) -> list[str]:
    """What was compared and what came of it, a line each."""
    images = f"{parity.images} image{'' if parity.images == 1 else 's'}"
    found = [
        f"{what}: largest difference {figures(value)} over {images}"
        for what, value in (
            ("preprocessed pixels", parity.preprocessing_max_abs),
            ("logits", parity.logits_max_abs),
        )
        if value is not None
    ]
    return [*found, parity.reason] if parity.reason else found
