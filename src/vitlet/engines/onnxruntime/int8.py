"""int8 linears with ONNX Runtime's operators: weights int8 by channel, activations uint8 by tensor.

Measured with DeiT-S at batch 1 on AVX-512 VNNI, one thread, ONNX Runtime 1.31, against fp32 = 1:
0.38 with ranges as they come (``DynamicQuantizeMatMul``) and 0.38 with learned ranges
(``QuantizeLinear`` and ``MatMulIntegerToFloat``). ONNX Runtime's own static path, whose linears also round
their results to 8 bits (``QLinearMatMul``), takes 0.47 with the attention products in int8 and is less exact. int8
activations with a sign, instead of uint8, take 2.8: there is no fast kernel for them.

Softmax, LayerNorm, GELU, residuals and the products between activations stay in fp32.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx

from vitlet.engines.onnxruntime.linear import Linear, replace_linears
from vitlet.engines.onnxruntime.ranges import Range
from vitlet.engines.onnxruntime.rewrite import CONTRIB, Rewriter, node


def dynamic_int8(model: onnx.ModelProto, weight_bits: int, in_float: Collection[str] = ()) -> None:
    """Give every linear but those of the operations ``in_float`` int8 weights and activations quantized by their own
    range, in place.
    """

    def make(edges: Rewriter, number: int, linear: Linear) -> Sequence[onnx.NodeProto]:
        weight, scale = _quantized(edges, number, linear, weight_bits)
        inputs = [linear.input, weight, scale, "", linear.bias]
        return [node("DynamicQuantizeMatMul", inputs[: 5 if linear.bias else 3], linear.output, domain=CONTRIB)]

    replace_linears(model, make, in_float)


def static_int8(
    model: onnx.ModelProto, weight_bits: int, ranges: Mapping[str, Range], in_float: Collection[str] = ()
) -> None:
    """Give every linear but those of the operations ``in_float`` int8 weights and activations quantized by ``ranges``
    (of each linear's input, by name), in place.
    """
    made: dict[str, tuple[str, str, str]] = {}

    def make(edges: Rewriter, number: int, linear: Linear) -> Sequence[onnx.NodeProto]:
        weight, scale = _quantized(edges, number, linear, weight_bits)
        nodes = []
        if linear.input not in made:
            low, high = ranges[linear.input]
            step, zero = activation_scale(low, high)
            names = [f"linear_{number}/input_{part}" for part in ("scale", "zero", "int8")]
            step_name, zero_name = edges.constant(names[0], step), edges.constant(names[1], zero)
            made[linear.input] = (step_name, zero_name, edges.fresh(names[2]))
            nodes.append(node("QuantizeLinear", [linear.input, step_name, zero_name], made[linear.input][2]))
        step_name, zero_name, rounded = made[linear.input]
        inputs = [rounded, weight, step_name, scale, zero_name, "", linear.bias]
        inputs = inputs[: 7 if linear.bias else 5]
        nodes.append(node("MatMulIntegerToFloat", inputs, linear.output, domain=CONTRIB))
        return nodes

    replace_linears(model, make, in_float)


def activation_scale(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """(scale float32 [], zero point uint8 []) of a range, widened so that 0 is exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = np.float32(max(high - low, 1e-8) / 255)
    return np.array(step), np.array(np.clip(np.round(-low / step), 0, 255), np.uint8)


def _quantized(edges: Rewriter, number: int, linear: Linear, bits: int) -> tuple[str, str]:
    """The names of the weight, int8 [K, N], symmetric by channel, and its scales, float32 [N]."""
    most = 2 ** (bits - 1) - 1
    scale = np.maximum(np.abs(linear.weight).max(axis=0), 1e-12) / most
    weight = np.clip(np.round(linear.weight / scale), -most, most).astype(np.int8)
    return (
        edges.constant(f"linear_{number}/weight_int8", weight),
        edges.constant(f"linear_{number}/weight_scale", scale.astype(np.float32)),
    )
