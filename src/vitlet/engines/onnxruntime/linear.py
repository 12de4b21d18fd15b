"""The linears of an ONNX graph: where they are, and putting something else in their place."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from vitlet.engines.onnxruntime.operations import owner, prefixes_of
from vitlet.engines.onnxruntime.rewrite import Rewriter, attribute, use_contrib
from vitlet.errors import Unsupported


@dataclass(frozen=True)
class Linear:
    """``output`` = ``input`` [..., K] times ``weight`` float32 [K, N], plus ``bias`` [N] (the name of a
    constant) unless empty. ``nodes`` are what computes it.
    """

    input: str
    weight: np.ndarray
    bias: str
    output: str
    nodes: tuple[onnx.NodeProto, ...]


def find_linears(edges: Rewriter) -> list[Linear]:
    """Every product with a constant matrix, in the graph's order."""
    found = (_linear(edges, item) for item in edges.graph.node if item.op_type in ("MatMul", "Gemm"))
    return [linear for linear in found if linear is not None]


def share_in_linears(model: onnx.ModelProto) -> float:
    """The share, above 0 and up to 1, of the model's float32 constants that are weights of linears.

    Raises:
        Unsupported: there is no linear.
    """
    constants = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    sizes = [linear.weight.size for linear in find_linears(Rewriter(model.graph))]
    if not sizes:
        raise Unsupported("the model has no linear layer that could be quantized; use fp32")
    # A weight that two linears share counts for each.
    return min(1.0, sum(sizes) / sum(math.prod(tensor.dims) for tensor in constants))


def replace_linears(
    model: onnx.ModelProto,
    make: Callable[[Rewriter, int, Linear], Sequence[onnx.NodeProto]],
    in_float: Collection[str] = (),
) -> None:
    """Put the nodes that ``make`` returns for (graph, number, linear) in the place of each linear, in place, but for
    those of the operations ``in_float``.

    Raises:
        Unsupported: the graph does not tell which linear one of them is, or no linear is left.
    """
    edges, prefixes = Rewriter(model.graph), prefixes_of(in_float)
    linears = find_linears(edges)
    owners = [owner(linear.nodes[0].name, prefixes) for linear in linears]
    lost = sorted(set(in_float) - set(owners))
    if lost:
        raise Unsupported(f"ONNX Runtime's graph of this model does not tell which of its products is {lost[0]!r}")
    if all(owners):
        raise Unsupported("no linear layer is left to quantize; use fp32")
    for number, linear in enumerate(linears):
        if not owners[number]:
            edges.replace(linear.nodes, make(edges, number, linear))
    edges.finish()
    use_contrib(model)


def _linear(edges: Rewriter, item: onnx.NodeProto) -> Linear | None:
    weight = edges.value(item.input[1])
    if weight is None or weight.ndim != 2 or weight.dtype != np.float32:
        return None
    if item.op_type == "Gemm":
        return _gemm(edges, item, weight)
    width = weight.shape[1]
    add = edges.only_consumer(item.output[0], "Add")
    for place in (0, 1) if add is not None else ():
        assert add is not None
        tensor = edges.constants.get(add.input[place])
        if tensor is not None and list(tensor.dims) == [width]:
            return Linear(item.input[0], weight, add.input[place], add.output[0], (item, add))
    return Linear(item.input[0], weight, "", item.output[0], (item,))


def _gemm(edges: Rewriter, item: onnx.NodeProto, weight: np.ndarray) -> Linear | None:
    if attribute(item, "alpha", 1.0) != 1 or attribute(item, "beta", 1.0) != 1 or attribute(item, "transA", 0):
        return None
    if attribute(item, "transB", 0):
        weight = weight.T
    bias = item.input[2] if len(item.input) > 2 else ""
    if bias and (bias not in edges.constants or list(edges.constants[bias].dims) != [weight.shape[1]]):
        return None
    return Linear(item.input[0], weight, bias, item.output[0], (item,))
