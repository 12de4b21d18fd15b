"""The ranges of a linear's inputs, learned from images one at a time.

Two passes: the first finds each tensor's smallest and largest value inside ONNX Runtime, the
second counts its values in bins between them, from which the range with the least squared
rounding error is chosen. Memory is one image's activations, whatever the number of images.
(ONNX Runtime's own calibrators hold those of all images: onnxruntime issue 10503.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

import numpy as np
import onnx

from vitlet.data.calibration import Calibration
from vitlet.engines.onnxruntime.linear import find_linears
from vitlet.engines.onnxruntime.rewrite import Rewriter, node
from vitlet.engines.onnxruntime.run import memory_session

#: Smallest and largest value that is not clipped.
Range: TypeAlias = tuple[float, float]

_BINS = 1024
#: Images whose values are counted; the extremes are those of all images.
_COUNTED = 32
#: Shares of the whole range that are tried at either end.
_SHARES = np.linspace(0.3, 1.0, 29)


def learn_ranges(model: onnx.ModelProto, calibration: Calibration) -> dict[str, Range]:
    """The range of each input of a linear, by name, for uint8 with the least squared error."""
    names = list(dict.fromkeys(linear.input for linear in find_linears(Rewriter(model.graph))))
    extremes = _extremes(model, names, calibration)
    counts = {name: np.zeros(_BINS, np.int64) for name in names}
    session = memory_session(_with_outputs(model, names))
    for image in islice(calibration, _COUNTED):
        for name, values in zip(names, session.run(names, {"images": image}), strict=True):
            counts[name] += _histogram(values, *extremes[name])
    return {name: least_error_range(counts[name], *extremes[name]) for name in names}


def least_error_range(counts: np.ndarray, low: float, high: float) -> Range:
    """The part of [``low``, ``high``] that uint8 should span, for values counted in equal bins over it."""
    centres = low + (np.arange(len(counts)) + 0.5) * (high - low) / len(counts)
    low, high = min(low, 0.0), max(high, 0.0)
    best = (np.inf, low, high)
    for bottom in low * _SHARES if low < 0 else np.zeros(1):
        for top in high * _SHARES if high > 0 else np.zeros(1):
            step = max(top - bottom, 1e-8) / 255
            missed = np.maximum(centres - top, 0) + np.maximum(bottom - centres, 0)
            # Inside, rounding errors are even over a step; outside, the distance to the end.
            error = float(counts @ (missed**2 + (missed == 0) * step**2 / 12))
            best = min(best, (error, float(bottom), float(top)))
    return best[1], best[2]


def _extremes(model: onnx.ModelProto, names: Sequence[str], images: Iterable[np.ndarray]) -> dict[str, Range]:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    outputs = []
    for number, name in enumerate(names):
        for kind in ("ReduceMin", "ReduceMax"):
            outputs.append(f"vitlet_{kind}_{number}")
            probe.graph.node.append(node(kind, [name], outputs[-1], keepdims=0))
    session = memory_session(_with_outputs(probe, outputs))
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for image in images:
        found = np.array(session.run(outputs, {"images": image}), np.float64).reshape(-1, 2)
        low, high = np.minimum(low, found[:, 0]), np.maximum(high, found[:, 1])
    return {name: (float(low[at]), float(high[at])) for at, name in enumerate(names)}


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    known: Mapping[str, None] = dict.fromkeys(output.name for output in probe.graph.output)
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    return probe


def _histogram(values: np.ndarray, low: float, high: float) -> np.ndarray:
    places = ((values.ravel() - np.float32(low)) * np.float32(_BINS / max(high - low, 1e-8))).astype(np.int32)
    return np.bincount(np.clip(places, 0, _BINS - 1), minlength=_BINS)
