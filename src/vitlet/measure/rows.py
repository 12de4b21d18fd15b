"""Measurements as the rows of the JSON document that every command can write (docs/json.md)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from vitlet.measure.comparison import Comparison
from vitlet.measure.statistics import Speedup, latency_summary
from vitlet.records import Measurement, to_json


def as_rows(measurements: Sequence[Measurement], comparison: Comparison) -> list[dict[str, Any]]:
    """One row for each measurement, with its speed-up and what the comparison made of it."""
    rows = []
    for index, measurement in enumerate(measurements):
        row = as_row(measurement, comparison.speedups[index])
        row["verdict"] = comparison.verdicts[index]
        row["best"] = index == comparison.recommended
        rows.append(row)
    return rows


def as_row(measurement: Measurement, speedup: Speedup | None = None) -> dict[str, Any]:
    """One row, of plain JSON values; ``None`` where it was not measured."""
    m = measurement
    latency = latency_summary(m)
    percentiles = (latency.p50, latency.p90, latency.p99, latency.n) if latency else (None, None, None, 0)
    return {
        "engine": m.engine,
        "precision": m.precision,
        "status": m.status,
        "reason": m.reason or None,
        "latency_ms": dict(zip(("p50", "p90", "p99", "n"), percentiles, strict=True)),
        "size_bytes": m.size_bytes,
        "peak_memory_bytes": m.peak_memory_bytes,
        "load_ms": m.load_ms,
        "first_ms": m.first_ms,
        "logits_error": m.logits_error,
        "agreement": m.agreement,
        "top1": m.top1,
        "top5": m.top5,
        "speedup": {"ratio": speedup.ratio, "low": speedup.low, "high": speedup.high} if speedup else None,
        "throughput_images_per_s": m.throughput_images_per_s,
        "throughput_batch": m.throughput_batch,
        "streams_images_per_s": m.streams_images_per_s,
        "streams": m.streams,
        "end_to_end_ms": _median(m.end_to_end_samples_ms),
        "calibration_error": m.calibration_error,
        "images": m.images,
        "labelled_images": m.labelled_images,
        "random_inputs": m.random_inputs,
        "quick": m.quick,
        "device": m.device,
        "note": m.note or None,
        "execution": None if m.execution is None else to_json(m.execution),
        "latency_samples_ms": [list(visit) for visit in m.latency_samples_ms],
        "end_to_end_samples_ms": list(m.end_to_end_samples_ms),
    }


def _median(samples: Sequence[float]) -> float | None:
    return median(samples) if samples else None
