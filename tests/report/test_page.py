"""The page as a whole: valid, self-contained, nothing unescaped, nothing left out."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import html5lib
import pytest

from vitlet.bundle.manifest import Images, Manifest, ModelFile, Recipe
from vitlet.certify.certificate import Certificate
from vitlet.certify.inspection import Cost, KindCost, Operation, Sensitivities, Sensitivity
from vitlet.data.imageset import Skipped
from vitlet.errors import InvalidValue
from vitlet.measure.damage import ChangedPicture
from vitlet.measure.statistics import latency_claim, latency_summary
from vitlet.records import Measurement, Parity, TimmArchitecture
from vitlet.report import ReportData, render_report
from vitlet.report.figures import figures, megabytes

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>&amp;{{ 7*7 }}'`\x00\x1b[31m\u202e"


def parse(html: str) -> Element:
    """Parse by the HTML standard; any parse error that it names fails."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(html)


def text_of(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def all_of(root: Element, tag: str) -> list[Element]:
    return [
        element for element in root.iter() if isinstance(element.tag, str) and element.tag.rpartition("}")[2] == tag
    ]


@dataclass(frozen=True)
class Page:
    data: ReportData
    html: str
    root: Element


@pytest.fixture(
    scope="module", params=["nine", "two", "many", "alone", "no labels", "random inputs", "no answers", "opaque"]
)
def page(
    request: pytest.FixtureRequest, deit_small: ReportData, make_report: Callable[..., ReportData], crowd: Callable
) -> Page:
    rows = deit_small.measurements
    ok = [row for row in rows if row.status == "ok"]
    unlabelled = tuple(replace(row, top1=None, top5=None, labelled_images=0) for row in ok)
    random = tuple(replace(row, images=0, random_inputs=16) for row in unlabelled)
    none = tuple(replace(row, agreement=None, logits_error=None, images=0) for row in unlabelled)
    reports: dict[str, Callable[[], ReportData]] = {
        "nine": lambda: deit_small,
        "two": lambda: make_report((rows[0], rows[3])),
        "many": lambda: make_report(crowd(25)),
        "alone": lambda: make_report(
            (rows[0], *(Measurement(m.engine, m.precision, "unsupported", "no") for m in ok[1:]))
        ),
        "no labels": lambda: make_report(unlabelled, images=Images(500)),
        "random inputs": lambda: make_report(random, images=Images(), random_weights=True, model=None, command=""),
        "no answers": lambda: make_report(none, images=Images(), parity=Parity("none", reason="no transformers here")),
        "opaque": lambda: make_report(
            rows, architecture=TimmArchitecture("swin_tiny_patch4_window7_224", 1000, 224, 224)
        ),
    }
    data = reports[request.param]()
    html = render_report(data)
    return Page(data, html, parse(html))


def test_valid_html_with_unique_ids_that_labels_find(page: Page) -> None:
    root = page.root
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    named = {name for element in root.iter() for name in element.attrib.get("aria-labelledby", "").split()}
    assert named <= set(ids)
    assert root.attrib["lang"] == "en"
    assert len(all_of(root, "h1")) == 1


def test_every_table_says_what_its_headers_are_for(page: Page) -> None:
    for table in all_of(page.root, "table"):
        assert len(all_of(table, "caption")) == 1
        assert all(header.attrib.get("scope") for header in all_of(table, "th"))
        widths = {
            sum(int(cell.attrib.get("colspan", 1)) for cell in row) for row in all_of(table, "tr") if all_of(row, "td")
        }
        assert len(widths) == 1, "rows of different width"


def test_every_drawing_has_words(page: Page) -> None:
    for drawing in all_of(page.root, "svg"):
        assert drawing.attrib.get("aria-label") or drawing.attrib.get("aria-hidden") == "true"


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    html, root = page.html, page.root
    addresses = {
        (element.tag, name, value)
        for element in root.iter()
        for name, value in element.attrib.items()
        if name.rpartition("}")[2] in ("src", "srcset", "href", "data", "action", "poster", "xlink:href", "background")
    }
    assert addresses == {("link", "href", "data:,")}
    assert not re.search(r"url\(|@import|https?:|//[a-z]", html.replace("photos//", ""))
    for tag in ("script", "iframe", "object", "embed", "form", "base", "img"):
        assert not all_of(root, tag)
    assert not [name for element in root.iter() for name in element.attrib if name.startswith("on") or name == "style"]
    (policy,) = [
        m.attrib["content"] for m in all_of(root, "meta") if m.attrib.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_page_is_plain_text_and_small(page: Page) -> None:
    assert type(page.html) is str
    assert len(page.html.encode()) < 300_000


def test_every_figure_of_every_measurement_is_there(page: Page) -> None:
    root = page.root
    tables = [table for table in all_of(root, "table") if table.attrib.get("class") == "variants"]
    rows = [row for table in tables for row in all_of(table, "tr") if all_of(row, "td")]
    measured = [m for m in page.data.measurements if m.status == "ok"]
    assert len(rows) == len(measured)
    found = {
        (text_of(row).split()[0], text_of(all_of(row, "td")[0])): [text_of(c) for c in all_of(row, "td")]
        for row in rows
    }
    for m in measured:
        latency = latency_summary(m)
        assert latency is not None
        cells = found[m.precision, figures(latency.p50)]
        wanted = [figures(latency.p90), megabytes(m.size_bytes), megabytes(m.peak_memory_bytes)]
        wanted += [figures(m.load_ms), figures(m.first_ms)]
        wanted += [f"{100 * share:.1f}" for share in (m.top1, m.top5, m.agreement) if share is not None]
        wanted += [figures(m.throughput_images_per_s)] if m.throughput_images_per_s else []
        for text in wanted:
            assert text in cells, (m.engine, m.precision, text)


def test_every_reason_and_sentence_is_there_once_each(page: Page) -> None:
    root = page.root
    shown = text_of(root)
    for sentence in page.data.sentences:
        assert sentence in shown
    absent = [m for m in page.data.measurements if m.status != "ok"]
    lists = [entry for entry in all_of(root, "ul") if entry.attrib.get("class") == "absent"]
    assert len(lists) == bool(absent)
    if absent:
        entries = [text_of(entry) for entry in all_of(lists[0], "li")]
        assert len(entries) == len({(m.status, m.reason) for m in absent})
        for m in absent:
            assert any(f"{m.engine} {m.precision}" in e and m.status in e and e.endswith(m.reason) for e in entries)


def test_hostile_names_stay_text(make_report: Callable[..., ReportData], deit_small: ReportData) -> None:
    rows = tuple(
        replace(m, engine=m.engine + HOSTILE, precision=m.precision + HOSTILE, reason=m.reason and m.reason + HOSTILE)
        for m in deit_small.measurements
    )
    report = make_report(
        rows,
        reference=HOSTILE,
        command=HOSTILE,
        note=HOSTILE,
        created=HOSTILE,
        vitlet_version=HOSTILE,
        settings={HOSTILE: HOSTILE},
        sentences=(HOSTILE, HOSTILE),
        environment=replace(
            deit_small.environment, processor=HOSTILE, packages={HOSTILE: HOSTILE}, instruction_sets=(HOSTILE,)
        ),
        images=Images(1, 1, (Skipped(HOSTILE, HOSTILE),), 1, HOSTILE, HOSTILE),
        parity=Parity(HOSTILE, 1, None, 0.1, HOSTILE),
        model=ModelFile("e", deit_small.model.precision, HOSTILE, 1, 1, 1, HOSTILE) if deit_small.model else None,
    )
    html = render_report(report)
    root = parse(html)  # strict: a raw control character would be an error
    assert not all_of(root, "script")
    assert not all_of(root, "img")
    assert "{{ 7*7 }}" in html
    assert html.count("<script") == 0
    assert not [n for e in root.iter() for n in e.attrib if n.startswith("on")]
    assert "<script>alert(1)</script>" in text_of(all_of(root, "h1")[0])
    assert "\ufffd" in html


def test_file_names_that_are_no_utf8(make_report: Callable[..., ReportData], deit_small: ReportData) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    html = render_report(make_report(deit_small.measurements, images=Images(1, 0, (Skipped(name, "broken"),), 1)))
    assert "caf\ufffd.jpg" in html
    html.encode("utf-8")


def test_many_skipped_files_are_counted_not_listed(
    make_report: Callable[..., ReportData], deit_small: ReportData
) -> None:
    skipped = tuple(Skipped(f"{i}.xml", "no image") for i in range(200))
    html = render_report(make_report(deit_small.measurements, images=Images(10, 0, skipped, 12_345)))
    assert "12,345 files left out" in html
    assert "and 12,325 more" in html
    assert "19.xml" in html
    assert "20.xml" not in html


def test_columns_that_nothing_was_measured_for_are_left_out_with_the_reason(
    make_report: Callable[..., ReportData], deit_small: ReportData
) -> None:
    row = deit_small.measurements[0]
    lone = Measurement("torch", "fp32", "ok", latency_samples_ms=row.latency_samples_ms, environment=row.environment)
    (table,) = [
        t for t in all_of(parse(render_report(make_report((lone,)))), "table") if t.attrib.get("class") == "variants"
    ]
    assert text_of(all_of(table, "thead")[0]) == "Variant Latency ms p50p90"
    html = render_report(make_report((lone,)))
    assert "p99 is told from 662 timed runs on" in html
    assert "There were no labelled images" in html


def test_missing_figures_are_a_dash(deit_small: ReportData) -> None:
    (table,) = [t for t in all_of(parse(render_report(deit_small)), "table") if t.attrib.get("class") == "variants"]
    last = [text_of(cell) for cell in all_of(all_of(table, "tr")[-1], "td")]
    assert last[4] == "–"  # mobile int8: no memory
    assert last[-1] == "–"  # nor throughput


def test_marks(deit_small: ReportData) -> None:
    html = render_report(deit_small)
    (table,) = [t for t in all_of(parse(html), "table") if t.attrib.get("class") == "variants"]
    marks = {
        (text_of(all_of(body, "th")[0]), text_of(all_of(row, "th")[0]))
        for body in all_of(table, "tbody")
        for row in all_of(body, "tr")[1:]
    }
    assert ("torch", "fp32 baseline") in marks
    assert ("torchscript", "int8-dynamic-x86 best here") in marks
    assert ("torchscript", "int8-dynamic-qnnpack slower than baseline") in marks
    assert ("mobile", "int8-dynamic-qnnpack slower than baseline") in marks
    assert ("torchscript", "int8-dynamic-onednn") in marks


def test_faster_but_wrong_variant_is_marked(make_report: Callable[..., ReportData], deit_small: ReportData) -> None:
    fast_and_wrong = replace(deit_small.measurements[3], top1=0.4, agreement=0.5)
    report = make_report((deit_small.measurements[0], fast_and_wrong))
    assert report.best == 0
    assert "answers not good enough" in render_report(report)


def test_without_verdicts_the_speed_ups_tell(deit_small: ReportData) -> None:
    told = replace(deit_small, verdicts=())
    assert [row.verdict for row in told.rows] == list(deit_small.verdicts)


def test_report_of_a_manifest(deit_small: ReportData) -> None:
    d = deit_small
    assert d.architecture is not None
    assert d.image_spec is not None
    assert d.model is not None
    manifest = Manifest(
        vitlet_version=d.vitlet_version,
        created=d.created,
        reference=d.reference,
        library=d.library,
        random_weights=False,
        architecture=d.architecture,
        image_spec=d.image_spec,
        labels=tuple(f"class {i}" for i in range(1000)),
        recipe=Recipe(d.command, "torchscript", "int8-dynamic-x86", 2, d.settings),
        model=d.model,
        environment=d.environment,
        measurements=d.measurements,
        chosen=d.best,
        baseline=d.baseline,
        sentences=d.sentences,
        verdicts=d.verdicts,
        images=d.images,
        parity=d.parity,
    )
    assert render_report(manifest) == render_report(d)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"best": 9}, "best is 9"), ({"baseline": -1}, "baseline is -1"), ({"verdicts": ("faster",)}, "1 verdicts on 9")],
)
def test_report_that_contradicts_itself(deit_small: ReportData, change: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidValue, match=says):
        replace(deit_small, **change)


def test_style_sheet_has_enough_contrast() -> None:
    """WCAG 2.2: 4.5 for text, 3 for what a plot is read by; in both schemes."""
    import vitlet.report

    style = (Path(vitlet.report.__file__).parent / "style.css").read_text("utf-8")
    schemes = re.findall(r":root \{([^}]*)\}", style)
    assert len(schemes) == 3  # light, dark, print
    for scheme in schemes:
        colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", scheme))
        for ink in ("ink", "soft", "good", "bad"):
            for paper in ("page", "card", "faint", "good-card" if ink != "bad" else "bad-card"):
                assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper, colours)
        for number in range(7):
            assert contrast(colours[f"c{number}"], colours["page"]) >= 3
            assert contrast(colours[f"c{number}"], colours["bad-card"]) >= 3


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("outcome", ["pass", "fail", "inconclusive", None])
def test_what_is_certain_stands_with_the_verdict(deit_small: ReportData, outcome: Any) -> None:
    limit = None if outcome is None else 0.01
    found = Certificate(0.95, 3000, 30, 0.014, 3000, 12, 8, -0.001, 0.004, limit, outcome, 900)
    root = parse(render_report(replace(deit_small, certificate=found)))
    (told,) = [p for p in all_of(root, "p") if "certain" in p.get("class", "").split()]
    assert "12 of 3,000 images lost, 8 won" in text_of(told)
    assert told.get("class", "").split()[1:] == ([outcome] if outcome else [])
    assert not [p for p in all_of(parse(render_report(deit_small)), "p") if "certain" in p.get("class", "")]


def changed(count: int, name: str = "photos/cat/1.jpg", label: str = "tabby cat") -> tuple[ChangedPicture, ...]:
    pixels = bytes(range(256)) * (200 * 300 * 3 // 256 + 1)
    picture = ChangedPicture(name, label, label, 0.51, f"not {label}", 0.49, 200, 300, pixels[: 200 * 300 * 3])
    return (picture,) * count


def test_changed_images_are_shown_with_both_answers(deit_small: ReportData) -> None:
    found = Certificate(0.95, 3000, 30, 0.014, 3000, 12, 8, -0.001, 0.004)
    html = render_report(replace(deit_small, certificate=found, changed=changed(12)))
    (section,) = [one for one in all_of(parse(html), "section") if one.get("aria-labelledby") == "changed"]
    assert "30 of 3,000 that judged; 12 are shown" in text_of(section)
    assert text_of(all_of(section, "li")[0]) == "cat/1.jpgis tabby catbefore: tabby cat 51.0 %now: not tabby cat 49.0 %"
    assert {one.get("class") for one in all_of(section, "span")} == {"right", "wrong"}
    assert all(one.get("src", "").startswith("data:image/jpeg;base64,") for one in all_of(section, "img"))
    assert len(html) < 1_000_000
    assert "Images that are answered otherwise" not in render_report(deit_small)


def test_hostile_labels_of_changed_images_stay_text(deit_small: ReportData) -> None:
    html = render_report(replace(deit_small, changed=changed(1, HOSTILE, HOSTILE)))
    assert "<script" not in html
    assert not [one for one in all_of(parse(html), "img") if one.get("onerror")]


def test_what_each_operation_costs_stands_in_the_report(deit_small: ReportData) -> None:
    operations = [Operation(f"blocks.{i}.mlp.up", "mlp up", i, 4000, 1000) for i in range(3)]
    costs = [Cost(0.01 * (i + 1), 1e-5 * (i + 1), i, 16) for i in range(3)]
    found = Sensitivities(
        "int8-static",
        tuple(Sensitivity(one, cost, 30.0) for one, cost in zip(operations, costs, strict=True)),
        (KindCost("mlp up", costs[-1]),),
        costs[-1],
        (),
    )
    root = parse(render_report(replace(deit_small, sensitivities=found)))
    (section,) = [one for one in all_of(root, "section") if one.get("aria-labelledby") == "sensitivity"]
    assert "blocks.2.mlp.up" in text_of(section)
    assert "vitlet inspect" in text_of(section)


def test_the_latency_is_claimed_with_its_interval(deit_small: ReportData) -> None:
    rows = deit_small.measurements
    claim = latency_claim(rows[deit_small.best], rows[deit_small.baseline], noise=0.03)
    found = Certificate(0.95, 3000, 30, 0.014, 3000, 12, 8, -0.001, 0.004, latency=claim)
    text = text_of(parse(render_report(replace(deit_small, certificate=found))))
    assert f"an image takes {claim.ms:.3g} ms on the machine where it was measured (95 % interval" in text
    assert "two measurements of one file differ by up to 3 %" in text
