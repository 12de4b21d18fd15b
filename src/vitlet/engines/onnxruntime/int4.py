"""int4 weights by blocks, with ONNX Runtime's ``MatMulNBits``.

Its products are fp32 (each block of weights is unpacked just before), or int8 with activations
that are quantized as they come. The patch embedding and the classes' linear, a few per cent of
the weights and the most sensitive, get 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from vitlet.engines.onnxruntime.linear import Linear, replace_linears
from vitlet.engines.onnxruntime.rewrite import CONTRIB, Rewriter, node

#: ``accuracy_level`` of MatMulNBits: what the products are computed in.
_FP32, _INT8 = 1, 4


def int4_weights(model: onnx.ModelProto, *, block: int, int8_products: bool) -> None:
    """Give every linear int4 weights, one scale for each ``block`` inputs or fewer, in place."""
    last = _last_linear(model)

    def make(edges: Rewriter, number: int, linear: Linear) -> Sequence[onnx.NodeProto]:
        bits = 8 if number == 0 or linear.output in last else 4
        size = next((share for share in (block, block // 2, 32) if share <= linear.weight.shape[0]), 32)
        packed, scales = pack(linear.weight, bits, size)
        names = [
            edges.constant(f"linear_{number}/weight_int{bits}", packed),
            edges.constant(f"linear_{number}/weight_scale", scales),
        ]
        inputs = [linear.input, *names, "", "", linear.bias]
        return [
            node(
                "MatMulNBits",
                inputs[: 6 if linear.bias else 3],
                linear.output,
                domain=CONTRIB,
                K=linear.weight.shape[0],
                N=linear.weight.shape[1],
                bits=bits,
                block_size=size,
                accuracy_level=_INT8 if int8_products else _FP32,
            )
        ]

    replace_linears(model, make)


def pack(weight: np.ndarray, bits: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """weight: float32 [K, N] -> (packed uint8 [N, blocks, bytes], scales float32 [N, blocks]).

    Symmetric: value = (code - half) * scale. The scale of a block is, of some that clip its largest value
    more or less, the one with the least squared error; its sign gives the longer, negative half of
    the codes to the value of largest magnitude.
    """
    half = 2 ** (bits - 1)
    columns, rows = weight.shape[1], weight.shape[0]
    blocks = -(-rows // block)
    padded = np.zeros((columns, blocks * block), np.float32)
    padded[:, :rows] = weight.T
    parts = padded.reshape(columns, blocks, block)
    peak = np.take_along_axis(parts, np.abs(parts).argmax(axis=2)[..., None], axis=2)
    peak = np.where(peak == 0, np.float32(1e-12), peak)
    best = np.full((columns, blocks, 1), np.inf, np.float32)
    scales = np.zeros((columns, blocks, 1), np.float32)
    for share in (1.0, 0.95, 0.9, 0.85, 0.8) if bits < 8 else (1.0,):
        scale = peak * np.float32(-share / half)
        codes = np.clip(np.round(parts / scale), -half, half - 1)
        error = np.square(codes * scale - parts).sum(axis=2, keepdims=True)
        scales, best = np.where(error < best, scale, scales), np.minimum(error, best)
    codes = (np.clip(np.round(parts / scales), -half, half - 1) + half).astype(np.uint8)
    if bits == 4:
        codes = codes[..., 0::2] | (codes[..., 1::2] << 4)
    return codes, scales[..., 0]


def _last_linear(model: onnx.ModelProto) -> set[str]:
    """The outputs of the linears that make the logits: one, or the two heads of a distilled model."""
    makers = {name: item for item in model.graph.node for name in item.output}
    found, names = set(), [model.graph.output[0].name]
    while names:
        item = makers.get(names.pop())
        if item is None:
            continue
        follow = item.op_type in ("Add", "Div", "Mul")
        found.update(item.output)
        names += item.input if follow else ()
    return found
