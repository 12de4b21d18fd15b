"""Section: where the model looks, before and after: the image, darkened, with a glow where attention is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from vitlet.certify.inspection import AttentionMaps, Inspection
from vitlet.report.figures import percent_unit
from vitlet.report.picture import address, picture
from vitlet.report.template import fill

#: Longest edge of a picture in pixels.
_LONGEST = 256
#: What lies over the image: opacity of 255 without attention (black) and with the most of it (this colour).
_LEAST, _MOST, _GLOW = 130, 205, (255, 150, 30)

_TEMPLATE = """
<section aria-labelledby="attention">
<h2 id="attention">Where the model looks</h2>
{% if not figures %}<p>{{ why|capitalize }}.</p>{% else %}
<p class="lead">What glows is where the answer comes from. Rollout follows attention through all layers \
(Abnar and Zuidema, 2020); the last layer is what the head reads. Int8 is a simulation with all operations rounded, \
not the output of a runtime, which tells no attention. Both pictures of a pair have the same scale.</p>
{% for f in figures %}
<figure class="looks">
<figcaption><b><bdi>{{ f.name }}</bdi></b> {{ f.maps.original.answer }}\
{% if f.maps.original.answer != f.maps.int8.answer %} <span class="changed">in int8: {{ f.maps.int8.answer }}</span>\
{% endif %}</figcaption>
<div class="row">
<div><svg viewBox="0 0 {{ f.maps.width }} {{ f.maps.height }}" role="img" aria-label="The image">\
<image id="{{ f.id }}" width="{{ f.maps.width }}" height="{{ f.maps.height }}" \
href="{{ f.picture }}"/></svg><small>image</small></div>
{% for cover in f.covers %}
<div><svg viewBox="0 0 {{ f.maps.width }} {{ f.maps.height }}" role="img" aria-label="{{ cover.label }}">\
<use href="#{{ f.id }}"/><image width="{{ f.maps.width }}" height="{{ f.maps.height }}" preserveAspectRatio="none" \
href="{{ cover.picture }}"/></svg><small>{{ cover.label }}</small></div>
{% endfor %}
</div>
<p class="note">Moved by int8: {{ f.rollout_moved }} of the rollout, {{ f.last_moved }} of the last layer's \
attention.</p>
</figure>
{% endfor %}
{% endif %}
</section>
"""


@dataclass(frozen=True)
class Cover:
    """What darkens a picture, as a data address."""

    label: str
    picture: str


@dataclass(frozen=True)
class Figure:
    """An image, its covers, and what is said of them."""

    maps: AttentionMaps
    name: str
    id: str
    picture: str
    covers: tuple[Cover, ...]
    rollout_moved: str
    last_moved: str


def section(found: Inspection) -> Markup:
    """A row of pictures for each image; without attention, why there is none."""
    figures = [_figure(number, maps) for number, maps in enumerate(found.attention)]
    return fill(_TEMPLATE, figures=figures, why=found.no_attention)


def _figure(number: int, maps: AttentionMaps) -> Figure:
    covers = []
    for name, one, other in (
        ("rollout", maps.original.rollout, maps.int8.rollout),
        ("last layer", maps.original.last, maps.int8.last),
    ):
        most = max(max(map(max, one)), max(map(max, other)))
        covers += [Cover(f"{name}, original", _cover(one, most)), Cover(f"{name}, int8", _cover(other, most))]
    moved = percent_unit(maps.rollout_moved), percent_unit(maps.last_moved)
    name = "/".join(Path(maps.image).parts[-2:])
    shown = picture(maps.pixels, maps.height, maps.width, _LONGEST)
    return Figure(maps, name, f"image-{number}", shown, tuple(covers), *moved)


def _cover(shares: tuple[tuple[float, ...], ...], most: float) -> str:
    """From black to glowing by attention; a pixel for each patch, which the browser smooths."""
    from PIL import Image

    content = bytearray()
    for row in shares:
        for share in row:
            strength = share / most if most > 0 else 0.0
            content += bytes(round(strength * part) for part in _GLOW)
            content.append(round(_LEAST + strength * (_MOST - _LEAST)))
    return address(Image.frombytes("RGBA", (len(shares[0]), len(shares)), bytes(content)), "PNG")
