"""Running an ONNX model that is still in memory, while it is being made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from vitlet.engines.onnxruntime.session import processors


def run_once(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
    """Run ``model`` once, unoptimised, and return these tensors."""
    found: list[np.ndarray] = memory_session(model, optimise=False).run(list(outputs), dict(inputs))
    return found


def memory_session(model: onnx.ModelProto, *, optimise: bool = True) -> Any:
    """An ``onnxruntime.InferenceSession`` of a model in memory, on all processors that this process may use."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = processors()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
