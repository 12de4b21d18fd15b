"""Section: how to make it again and how to use it."""

from __future__ import annotations

from markupsafe import Markup

from vitlet.report.data import ReportData
from vitlet.report.template import fill

_TEMPLATE = """
<section aria-labelledby="recipe">
<h2 id="recipe">{{ "Make it again, and use it" if data.model else "Make it again" }}</h2>
{% if data.command %}
<p>Made with vitlet {{ data.vitlet_version }} by:</p>
<pre tabindex="0" aria-label="Command"><code>{{ data.command }}</code></pre>
{% else %}
<p>Made with vitlet {{ data.vitlet_version }} from Python.</p>
{% endif %}
{% if settings %}
<p class="note">{% for name, value in settings.items() %}{{ name|replace("_", " ") }} {{ value }}\
{{ ", " if not loop.last }}{% endfor %}</p>
{% endif %}
{% if data.model %}
<p>This folder holds <code>{{ data.model.file }}</code>, the {{ data.model.engine }} model in \
{{ data.model.precision }}\
{% if data.model.note %} ({{ data.model.note }}){% endif %}, with its preprocessing and labels in \
<code>manifest.json</code>. In the folder above it:</p>
<pre tabindex="0" aria-label="Command"><code>vitlet classify FOLDER photo.jpg
vitlet eval FOLDER --data images/
sha256sum -c SHA256SUMS     # in the folder itself: are the files unharmed?</code></pre>
{% endif %}
</section>
"""


def section(data: ReportData) -> Markup:
    """The command, the settings, and what a bundle is good for."""
    settings = {name: value for name, value in data.settings.items() if value is not None}
    return fill(_TEMPLATE, data=data, settings=settings)
