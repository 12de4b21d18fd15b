"""Section: the machine and the software that the figures hold for."""

from __future__ import annotations

from markupsafe import Markup

from vitlet.report.data import ReportData
from vitlet.report.template import fill

_TEMPLATE = """
<section aria-labelledby="environment">
<h2 id="environment">Measured on</h2>
<p class="lead">The figures hold for this machine and this software; on another, measure again.</p>
<dl class="facts">
<div><dt>Processor</dt><dd>{{ e.processor }} ({{ e.architecture }})</dd></div>
<div><dt>Cores and threads</dt><dd>{{ e.cores }} core{{ "s" if e.cores != 1 }}, \
{{ e.threads }} thread{{ "s" if e.threads != 1 }} used</dd></div>
<div><dt>Memory</dt><dd>{{ gigabytes }} GB</dd></div>
<div><dt>Instruction sets</dt><dd>{{ e.instruction_sets|join(", ") or "none known" }}</dd></div>
<div><dt>System</dt><dd>{{ e.system }}, Python {{ e.python }}</dd></div>
<div><dt>Packages</dt><dd>{% for name, version in e.packages|dictsort %}<span class="nowrap">{{ name }} {{ version }}\
{{ "," if not loop.last }}</span> {% endfor %}</dd></div>
</dl>
</section>
"""


def section(data: ReportData) -> Markup:
    """The environment of all measurements."""
    gigabytes = f"{data.environment.memory_bytes / 1e9:.1f}"
    return fill(_TEMPLATE, e=data.environment, gigabytes=gigabytes)
