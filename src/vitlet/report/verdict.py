"""Section: what came out, in a sentence and four figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from vitlet.certify.sentences import latency_sentence, sentence
from vitlet.records import TimmArchitecture
from vitlet.report.data import ReportData, Row
from vitlet.report.figures import (
    SPACE,
    interval,
    megabytes_unit,
    milliseconds,
    percent_unit,
    speed,
    times,
    when,
)
from vitlet.report.template import fill


@dataclass(frozen=True)
class Tile:
    """One figure of the best variant; ``change`` is in words, ``before`` the uncompressed model's."""

    name: str
    value: str
    change: str = ""
    before: str = ""
    is_good: bool = False


_TEMPLATE = """
<header>
<p class="brand">vitlet <span>{{ "compression report" if data.model else "comparison" }}</span></p>
<h1><bdi>{{ data.reference }}</bdi></h1>
<p class="meta">{% for fact in facts %}<span>{{ fact }}</span> {% endfor %}</p>
</header>
<section class="verdict" aria-labelledby="verdict">
<h2 id="verdict" class="headline">{{ headline }}</h2>
{% if tiles %}
<dl class="tiles">
{% for tile in tiles %}
<div>
<dt>{{ tile.name }}</dt>
<dd><span class="value">{{ tile.value }}</span>
{% if tile.change %}<span class="change{{ " good" if tile.is_good }}">{{ tile.change }}</span>{% endif %}
{% if tile.before %}<span class="before">{{ tile.before }}</span>{% endif %}
</dd>
</div>
{% endfor %}
</dl>
{% endif %}
{% if certain %}
<p class="certain {{ data.certificate.outcome or "" }}">{{ certain }}</p>
{% if latency %}<p class="certain">{{ latency }}</p>{% endif %}
{% endif %}
{% if rest %}
<ul class="sentences">
{% for sentence in rest %}<li>{{ sentence }}</li>{% endfor %}
</ul>
{% endif %}
</section>
"""


def section(data: ReportData) -> Markup:
    """The page's head and the verdict."""
    headline = data.sentences[0] if data.sentences else "These variants were measured."
    return fill(
        _TEMPLATE,
        data=data,
        facts=list(_facts(data)),
        headline=headline,
        tiles=_tiles(data),
        certain="" if data.certificate is None else f"{_capital(sentence(data.certificate))}.",
        latency=_latency_claim(data),
        rest=data.sentences[1:],
    )


def _latency_claim(data: ReportData) -> str:
    told = "" if data.certificate is None else latency_sentence(data.certificate)
    return f"Latency: {told}." if told else ""


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _facts(data: ReportData) -> Iterator[str]:
    """What the model is, in a few short pieces."""
    a = data.architecture
    if isinstance(a, TimmArchitecture):
        yield a.name
    elif a is not None:
        distilled = " distilled" if a.distillation_token else ""
        yield f"ViT/{a.patch}{distilled}, {a.depth} blocks of {a.width}"
    if a is not None:
        yield f"{a.image_height} × {a.image_width} pixels"
        yield f"{a.classes:,} classes"
    if data.random_weights:
        yield "random weights"
    threads = data.environment.threads
    yield f"{threads} thread{'' if threads == 1 else 's'} of {data.environment.processor}"
    yield when(data.created)


def _tiles(data: ReportData) -> list[Tile]:
    best, base = data.rows[data.best], data.rows[data.baseline]
    if not best.is_best:
        return []
    compared = base if base.measurement.status == "ok" and not best.is_baseline else None
    found = (_latency(best, compared), *_weights(best, compared), _answers(data, best, compared))
    return [tile for tile in found if tile is not None]


def _latency(best: Row, base: Row | None) -> Tile | None:
    if best.latency is None:
        return None
    value = milliseconds(best.latency.p50)
    if base is None or base.latency is None:
        return Tile("Latency of an image, p50", value)
    change = f"{speed(best.speed)} ({interval(best.speed)})"
    before = f"uncompressed {milliseconds(base.latency.p50)}"
    return Tile("Latency of an image, p50", value, change, before, best.speed is not None and best.speed.is_faster)


def _weights(best: Row, base: Row | None) -> Iterator[Tile]:
    for name, field in (("File", "size_bytes"), ("Memory, at its peak", "peak_memory_bytes")):
        mine = getattr(best.measurement, field)
        theirs = getattr(base.measurement, field) if base else None
        if mine is None:
            continue
        value = megabytes_unit(mine)
        if not mine or not theirs:
            yield Tile(name, value)
            continue
        change, before = times(theirs / mine, "smaller", "larger"), f"uncompressed {megabytes_unit(theirs)}"
        yield Tile(name, value, change, before, theirs > mine)


def _answers(data: ReportData, best: Row, base: Row | None) -> Tile | None:
    mine = best.measurement
    if mine.top1 is not None:
        value = percent_unit(mine.top1, mine.labelled_images)
        if base is None or base.measurement.top1 is None:
            return Tile("Top-1 accuracy", value)
        lost = 100 * (mine.top1 - base.measurement.top1)
        change = "unchanged" if abs(lost) < 0.005 else f"{lost:+.2f}{SPACE}points".replace("-", "−")
        before = f"uncompressed {percent_unit(base.measurement.top1, mine.labelled_images)}"
        return Tile("Top-1 accuracy", value, change, before, lost > -0.005)
    if base is None or data.random_weights or not mine.images or mine.agreement is None:
        return None
    count = f"on {mine.images:,} image{'' if mine.images == 1 else 's'}"
    return Tile("Same answer as before", percent_unit(mine.agreement, mine.images), count)
