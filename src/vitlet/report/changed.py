"""Section: the images whose answer changed, as small pictures with both answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from vitlet.report.data import ReportData
from vitlet.report.figures import percent_unit
from vitlet.report.picture import picture
from vitlet.report.template import fill

#: Longest edge of a picture in pixels.
_LONGEST = 112

_TEMPLATE = """
<section aria-labelledby="changed">
<h2 id="changed">Images that are answered otherwise</h2>
<p class="lead">{{ told }} Those that were right before and are wrong now come first. Per cents are the model's own \
confidence.</p>
<ul class="changed-images">
{% for one in images %}
<li><img{% if one.is_tiny %} class="tiny"{% endif %} src="{{ one.picture }}" \
alt="{{ one.name }}" width="112" height="112">\
<p><b><bdi>{{ one.name }}</bdi></b>{% if one.truth %}<br>is <bdi>{{ one.truth }}</bdi>{% endif %}\
<br><span class="{{ one.before_mark }}">before: <bdi>{{ one.before }}</bdi></span> {{ one.before_share }}\
<br><span class="{{ one.after_mark }}">now: <bdi>{{ one.after }}</bdi></span> {{ one.after_share }}</p></li>
{% endfor %}
</ul>
</section>
"""


@dataclass(frozen=True)
class _Shown:
    picture: str
    name: str
    truth: str
    before: str
    before_share: str
    before_mark: str
    after: str
    after_share: str
    after_mark: str
    is_tiny: bool


def section(data: ReportData) -> Markup:
    """Nothing without pictures."""
    if not data.changed:
        return Markup()
    images = []
    for one in data.changed:
        name = "/".join(Path(one.name).parts[-2:])
        marks = [
            "" if not one.truth else "right" if one.truth == answer else "wrong" for answer in (one.before, one.after)
        ]
        shares = [percent_unit(share) for share in (one.before_share, one.after_share)]
        shown = picture(one.pixels, one.height, one.width, _LONGEST)
        before, after = (one.before, shares[0], marks[0]), (one.after, shares[1], marks[1])
        images.append(_Shown(shown, name, one.truth, *before, *after, max(one.height, one.width) <= _LONGEST // 2))
    found = data.certificate
    told = f"{len(images)} of them."
    if found is not None:
        told = f"{found.changed:,} of {found.images:,} that judged; {len(images)} are shown."
    return fill(_TEMPLATE, images=images, told=told)


def _mark(truth: str, answer: str) -> str:
    return "" if not truth else "right" if truth == answer else "wrong"
