"""The page of ``inspect``: valid, self-contained, nothing unescaped, with and without blocks, times and attention."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree.ElementTree import Element

import html5lib
import pytest

from vitlet.bundle.manifest import Images
from vitlet.certify.inspection import (
    AttentionMaps,
    Cost,
    InputStatistics,
    Inspection,
    KindCost,
    Operation,
    Sensitivities,
    Sensitivity,
    View,
)
from vitlet.measure.operation_times import OperationTime, OperationTimes
from vitlet.report import ReportData
from vitlet.report.inspection import InspectionData, render_inspection

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>&amp;{{ 7*7 }}'`\x00\x1b[31m\u202e"


def sensitivities(blocks: int) -> Sensitivities:
    """A ViT with so many blocks; none for 0."""
    kinds = [("mlp.up", "mlp up"), ("mlp.down", "mlp down")]
    names = [("embed", "patch embedding", None)]
    names += [(f"blocks.{b}.{path}", kind, b) for b in range(blocks) for path, kind in kinds]
    names += [("head", "head", None)]
    operations = tuple(
        Sensitivity(
            Operation(name, kind, block, 4096, 10**6),
            Cost(0.01 * (i + 1), 1e-6 * 3**i, i % 2, 50),
            None if name == "head" else 40.0,
        )
        for i, (name, kind, block) in enumerate(names)
    )
    inputs = tuple(
        InputStatistics(name, "input", -1.0 - i, 2.0 + i, 1.5, (1.0, 1.0, 2.0 + 3 * i))
        for i, (name, _, _) in enumerate(names)
    )
    costs = tuple(KindCost(kind, Cost(0.1, 1e-4, 1, 50)) for _, kind in kinds)
    return Sensitivities("int8-static", operations, costs, Cost(0.3, 2e-3, 3, 50), inputs)


def attention(name: str) -> AttentionMaps:
    even, other = ((0.25, 0.25), (0.25, 0.25)), ((0.5, 0.25), (0.25, 0.0))
    return AttentionMaps(name, 4, 4, bytes(range(48)), View("cat", even, other), View("dog", other, even))


@pytest.fixture
def make_data(deit_small: ReportData) -> Callable[..., InspectionData]:
    def make(found: Inspection, **more: Any) -> InspectionData:
        times = OperationTimes({"embed": OperationTime((2.0, 3.0, 4.0), (1.0, 1.0, 2.0))}, "a profile")
        data = InspectionData(
            "deit", "2026-11-22T07:18:50+00:00", "0.1.0", deit_small.environment, Images(50), found, times
        )
        return replace(data, **more)

    return make


@pytest.mark.parametrize(
    ("found", "more"),
    [
        (Inspection(sensitivities(3), (attention("a/b.png"), attention("c.png"))), {"command": "vitlet inspect x"}),
        (Inspection(sensitivities(24), (attention("a.png"),)), {"times": OperationTimes({}, reason="no runtime")}),
        (Inspection(sensitivities(0), (), "there is none"), {"random_weights": True}),
    ],
)
def test_valid_self_contained_and_readable(
    make_data: Callable[..., InspectionData], found: Inspection, more: Any
) -> None:
    html = render_inspection(make_data(found, **more))
    root = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(html)
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    addresses = {
        value
        for element in root.iter()
        for name, value in element.attrib.items()
        if str(name).rpartition("}")[2] in ("src", "href", "data", "action")
    }
    assert all(re.match(r"data:(,$|image/(png|jpeg);base64,)|#image-\d+$", value) for value in addresses), addresses
    assert {value[1:] for value in addresses if value[0] == "#"} <= set(ids)
    assert not re.search(r"<script|style=|url\(|https?:", html)
    for drawing in elements(root, "svg"):
        assert drawing.attrib.get("aria-label") or drawing.attrib.get("aria-hidden") == "true"
    for table in elements(root, "table"):
        assert len(elements(table, "caption")) == 1
        assert len({len(list(row)) for row in elements(table, "tr")}) == 1
    for one in found.sensitivities.operations:
        assert one.operation.name in html


def elements(root: Element, tag: str) -> list[Element]:
    return [one for one in root.iter() if isinstance(one.tag, str) and one.tag.rpartition("}")[2] == tag]


def test_what_it_says(make_data: Callable[..., InspectionData]) -> None:
    found = Inspection(sensitivities(3), (attention("a/b.png"),))
    text = " ".join(re.sub(r"<[^>]+>", " ", render_inspection(make_data(found))).replace("\u00a0", " ").split())
    assert "All 8 operations in int8 together: 3 of 50 answers change, and the logits move by 30.0 %." in text
    assert (
        "head is the most sensitive operation: alone in int8 it moves the logits by 8.00 % and changes 1 answer."
        in text
    )
    assert "Next come blocks.2.mlp.down, blocks.2.mlp.up, blocks.1.mlp.down." in text
    assert "6 of 8 inputs have outlier channels; the largest stands in the input of head, 23.0 times" in text
    assert "a/b.png cat in int8: dog" in text
    assert "Moved by int8: 25.0 % of the rollout, 25.0 % of the last layer's attention." in text
    assert re.search(r"embed 1.00 1.00 0 40.0 1.00 0.004 2.00", text)  # ... and the median time that is saved


def test_text_from_outside_is_escaped(make_data: Callable[..., InspectionData]) -> None:
    found = replace(sensitivities(1), precision=HOSTILE)
    hostile = Operation(HOSTILE, HOSTILE, None, 0, 1)
    found = replace(found, operations=(*found.operations, Sensitivity(hostile, Cost(None, 0.0, 0, 1), None)))
    maps = replace(
        attention(HOSTILE), original=View(HOSTILE, ((1.0,),), ((1.0,),)), int8=View("x", ((0.0,),), ((1.0,),))
    )
    data = make_data(
        Inspection(found, (maps,)), reference=HOSTILE, command=HOSTILE, times=OperationTimes({}, reason=HOSTILE)
    )
    html = render_inspection(data)
    assert not re.search("<script|<img|\x00|\x1b", html)
    assert "7*7" in html
