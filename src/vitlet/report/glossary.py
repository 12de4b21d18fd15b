"""Section: what each figure means and how it was taken."""

from __future__ import annotations

from markupsafe import Markup

from vitlet.report.data import ReportData
from vitlet.report.template import fill

_TEMPLATE = """
<section aria-labelledby="glossary">
<h2 id="glossary">What the figures mean</h2>
<dl class="facts">
<div><dt>Latency</dt><dd>Time from one preprocessed image to its logits, the model warm. Half of the runs were at most \
p50, nine in ten at most p90.</dd></div>
<div><dt>Speed</dt><dd>The uncompressed model's time over the variant's, from visits in turn, with its 95 % interval. \
A difference that two measurements of one and the same file could show counts as none.</dd></div>
<div><dt>From file</dt><dd>Time from the bytes of an image file to its logits: decode, resize, crop, normalise, \
run.</dd></div>
<div><dt>File</dt><dd>Bytes on disk; 1 MB is a million bytes.</dd></div>
<div><dt>Memory</dt><dd>Most resident memory while loading and running, above what the bare runtime holds.</dd></div>
<div><dt>Accuracy</dt><dd>Share of labelled images whose label is the first answer (top-1), or among the first five \
(top-5).</dd></div>
<div><dt>Same answer</dt><dd>Share of images with the same first answer as the uncompressed model.</dd></div>
<div><dt>Logits error</dt><dd>Length of the difference between the logits and the uncompressed model's, over the \
length of the latter.</dd></div>
<div><dt>Calibration error</dt><dd>How far the softmax probability of the first answer is from the share of right \
answers, over 15 bins (ECE).</dd></div>
<div><dt>Throughput</dt><dd>Images per second in batches, and of several sessions at once with one thread \
each.</dd></div>
<div><dt>Not the same model</dt><dd>The logits are so far from the uncompressed model's that the export or the runtime \
must be at fault; such a variant is never recommended.</dd></div>
<div><dt>Load, first image</dt><dd>Opening the file, and the first answer after it, in a fresh process.</dd></div>
</dl>
</section>
"""


def section(data: ReportData) -> Markup:
    """The same words for every report."""
    return fill(_TEMPLATE, data=data)
