"""Rows of the JSON document: what they hold, and that its description says so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from vitlet.measure.comparison import compare
from vitlet.measure.rows import as_row, as_rows
from vitlet.records import Measurement

BASE = Measurement(
    "torch",
    "fp32",
    "ok",
    latency_samples_ms=((10.0,) * 40, (12.0,) * 40),
    size_bytes=100,
    peak_memory_bytes=200,
    load_ms=3.0,
    first_ms=4.0,
    throughput_images_per_s=99.0,
    throughput_batch=8,
    logits_error=0.0,
    agreement=1.0,
    top1=0.5,
    top5=1.0,
    images=4,
    labelled_images=2,
)
FASTER = Measurement("lite", "int8-dynamic", "ok", latency_samples_ms=((1.0,) * 40, (1.0,) * 40), images=4)
ABSENT = Measurement("mobile", "fp32", "unsupported", "no XNNPACK")


def test_a_measured_row():
    row = as_row(BASE)
    assert row["latency_ms"] == {"p50": 11.0, "p90": 12.0, "p99": None, "n": 80}
    expected = {"engine": "torch", "precision": "fp32", "status": "ok", "reason": None, "size_bytes": 100}
    expected |= {"peak_memory_bytes": 200, "load_ms": 3.0, "first_ms": 4.0, "logits_error": 0.0, "agreement": 1.0}
    expected |= {"top1": 0.5, "top5": 1.0, "images": 4, "labelled_images": 2, "random_inputs": 0, "quick": False}
    expected |= {"throughput_images_per_s": 99.0, "throughput_batch": 8, "speedup": None}
    assert {name: row[name] for name in expected} == expected
    assert row["latency_samples_ms"] == [[10.0] * 40, [12.0] * 40]
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_a_row_that_was_not_measured_is_null_everywhere():
    row = as_row(ABSENT)
    assert (row["status"], row["reason"]) == ("unsupported", "no XNNPACK")
    assert row["latency_ms"] == {"p50": None, "p90": None, "p99": None, "n": 0}
    numbers = ("size_bytes", "peak_memory_bytes", "load_ms", "first_ms", "logits_error", "agreement", "top1", "top5")
    assert all(row[name] is None for name in numbers)
    assert row.keys() == as_row(BASE).keys()


def test_compared_rows_say_what_became_of_them():
    rows = as_rows([BASE, FASTER, ABSENT], compare([BASE, FASTER, ABSENT], answers_matter=False))
    assert [(row["verdict"], row["best"]) for row in rows] == [
        ("baseline", False),
        ("faster", True),
        ("unsupported", False),
    ]
    assert rows[1]["speedup"]["ratio"] == pytest.approx(120**0.5)
    assert rows[1]["speedup"]["low"] < rows[1]["speedup"]["ratio"] < rows[1]["speedup"]["high"]
    assert rows[0]["speedup"] is rows[2]["speedup"] is None


def test_the_documentation_names_every_key():
    text = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
    rows = as_rows([BASE, FASTER], compare([BASE, FASTER], answers_matter=False))
    documented = set(re.findall(r"^\| `([a-z0-9_]+)`", text, re.MULTILINE))
    for row in rows:
        assert row.keys() <= documented
    assert {"schema_version", "command", "environment", "rows"} <= documented
