"""Rewrites of a ViT's graph that ONNX Runtime does not find by itself; each exact but for rounding.

Attention over one packed query-key-value linear becomes ``com.microsoft.MultiHeadAttention``. Its
kernel never holds the [tokens, tokens] scores of all heads and needs no transposes. At batch 1
with one thread it is as fast as the best form without it (DeiT-S, ONNX Runtime 1.31: within 1 %
of opset 23's Attention and of three transposes, two MatMul and a Softmax). LayerNormalization is left
alone: SkipLayerNormalization, which adds the residual too, takes 7 times as long on the CPU.
GELU is left to ONNX Runtime, which fuses it, and the bias before it, on loading.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from vitlet.engines.onnxruntime.rewrite import CONTRIB, Rewriter, attribute, node, use_contrib


def fuse_attention(model: onnx.ModelProto) -> None:
    """Replace each attention over a packed linear by one operator, in place; others stay as they are."""
    edges = Rewriter(model.graph)
    for softmax in [item for item in model.graph.node if item.op_type == "Softmax"]:
        _fuse_one(edges, softmax)
    edges.finish()
    use_contrib(model)


def patches_as_linear(model: onnx.ModelProto) -> None:
    """Write a patch embedding as a linear over each patch's pixels, in place: integers multiply
    those far faster than convolutions. Needs an image of whole patches.
    """
    edges = Rewriter(model.graph)
    for convolution in [item for item in model.graph.node if item.op_type == "Conv"]:
        _embed_one(edges, convolution)
    edges.finish()


def _fuse_one(edges: Rewriter, softmax: onnx.NodeProto) -> None:
    scores = edges.producer(softmax.input[0], "MatMul", "Mul", "Div")
    mixed = edges.only_consumer(softmax.output[0], "MatMul")
    if scores is None or mixed is None or mixed.input[0] != softmax.output[0]:
        return
    product, scale = _unscaled(edges, scores.output[0])
    matmul = edges.producer(product, "MatMul")
    back = edges.only_consumer(mixed.output[0], "Transpose")
    joined = edges.only_consumer(back.output[0], "Reshape") if back else None
    if matmul is None or back is None or joined is None or attribute(back, "perm") != [0, 2, 1, 3]:
        return
    query, query_scale = _unscaled(edges, matmul.input[0])
    key, key_scale = _unscaled(edges, matmul.input[1])
    turned = edges.producer(key, "Transpose")
    if turned is None or attribute(turned, "perm") != [0, 1, 3, 2]:
        return
    key, inner_scale = _unscaled(edges, turned.input[0])
    sources = [_part_of_packed(edges, name) for name in (query, key, mixed.input[1])]
    if None in sources or len({source[0] for source in sources if source}) != 1:
        return
    packed, heads, width = next((s[0], s[2], s[3]) for s in sources if s)
    if [source[1] for source in sources if source] != [0, 1, 2] or edges.ints(joined.input[1]) is None:
        return
    shape = edges.ints(joined.input[1]) or []
    if len(shape) != 3 or shape[2] != heads * width or attribute(softmax, "axis", -1) not in (-1, 3):
        return
    total = scale * query_scale * key_scale * inner_scale
    edges.replace([joined], _attention(edges, packed, joined.output[0], heads, width, total))


def _attention(
    edges: Rewriter, packed: str, output: str, heads: int, width: int, scale: float
) -> Sequence[onnx.NodeProto]:
    """packed: [batch, tokens, 3 * heads * width] -> [batch, tokens, heads * width]."""
    sizes = edges.constant(f"{output}/sizes", np.full(3, heads * width, np.int64))
    parts = [edges.fresh(f"{output}/{part}") for part in ("query", "key", "value")]
    split = onnx.helper.make_node("Split", [packed, sizes], parts, name=f"{output}/Split", axis=2)
    whole = node("MultiHeadAttention", parts, output, domain=CONTRIB, num_heads=heads, scale=scale)
    return split, whole


def _unscaled(edges: Rewriter, name: str) -> tuple[str, float]:
    """What ``name`` is a constant multiple of, and the factor."""
    found = edges.producer(name, "Mul", "Div")
    if found is None:
        return name, 1.0
    for place in (0, 1) if found.op_type == "Mul" else (1,):
        value = edges.value(found.input[place])
        if value is not None and value.size == 1:
            factor = float(value.ravel()[0])
            return found.input[1 - place], factor if found.op_type == "Mul" else 1 / factor
    return name, 1.0


def _part_of_packed(edges: Rewriter, name: str) -> tuple[str, int, int, int] | None:
    """(packed tensor, which third of it, heads, head width) of a tensor [batch, heads, tokens, head width]."""
    found = _unbound(edges, name)
    if found is None:
        return None
    turned = edges.producer(found[0], "Transpose")
    if turned is None or attribute(turned, "perm") != [2, 0, 3, 1, 4]:
        return None
    parted = edges.producer(turned.input[0], "Reshape")
    shape = edges.ints(parted.input[1]) if parted is not None else None
    if parted is None or shape is None or len(shape) != 5 or shape[0] not in (-1, 0) or shape[2] != 3:
        return None
    return parted.input[0], found[1], shape[3], shape[4]


def _unbound(edges: Rewriter, name: str) -> tuple[str, int] | None:
    """(tensor, number) if ``name`` is the tensor's slice of that number along its first axis."""
    gather = edges.producer(name, "Gather")
    if gather is not None and attribute(gather, "axis", 0) == 0:
        index = edges.ints(gather.input[1])
        return (gather.input[0], index[0]) if index is not None and len(index) == 1 else None
    squeeze = edges.producer(name, "Squeeze")
    if squeeze is None or len(squeeze.input) < 2 or edges.ints(squeeze.input[1]) != [0]:
        return None
    split = edges.producer(squeeze.input[0], "Split")
    if split is not None and attribute(split, "axis", 0) == 0 and len(split.output) == 3:
        return split.input[0], list(split.output).index(squeeze.input[0])
    cut = edges.producer(squeeze.input[0], "Slice")
    if cut is None or len(cut.input) < 4 or edges.ints(cut.input[3]) != [0]:
        return None
    start, end = edges.ints(cut.input[1]), edges.ints(cut.input[2])
    return (cut.input[0], start[0]) if start and end and end[0] == start[0] + 1 else None


def _embed_one(edges: Rewriter, convolution: onnx.NodeProto) -> None:
    kernel = edges.value(convolution.input[1])
    flat = edges.only_consumer(convolution.output[0], "Reshape")
    turned = edges.only_consumer(flat.output[0], "Transpose") if flat else None
    if kernel is None or kernel.ndim != 4 or turned is None or attribute(turned, "perm") != [0, 2, 1]:
        return
    shape = _image_shape(edges, convolution)
    width, channels, high, wide = kernel.shape
    if shape is None or any(attribute(convolution, "pads", [0])) or attribute(convolution, "group", 1) != 1:
        return
    strided = attribute(convolution, "strides") == [high, wide]
    if not strided or set(attribute(convolution, "dilations", [1])) != {1} or shape[0] % high or shape[1] % wide:
        return
    rows, columns = shape[0] // high, shape[1] // wide
    out = turned.output[0]
    apart = edges.constant(f"{out}/apart", np.array([0, channels, rows, high, columns, wide], np.int64))
    pixels = edges.constant(f"{out}/pixels", np.array([0, rows * columns, channels * high * wide], np.int64))
    weight = edges.constant(f"{out}/weight", kernel.reshape(width, -1).T)
    names = [edges.fresh(f"{out}/{step}") for step in ("parted", "gathered", "patches", "product")]
    nodes = [
        node("Reshape", [convolution.input[0], apart], names[0]),
        node("Transpose", [names[0]], names[1], perm=[0, 2, 4, 1, 3, 5]),
        node("Reshape", [names[1], pixels], names[2]),
    ]
    if len(convolution.input) > 2:
        nodes.append(node("MatMul", [names[2], weight], names[3]))
        nodes.append(node("Add", [names[3], convolution.input[2]], out))
    else:
        nodes.append(node("MatMul", [names[2], weight], out))
    edges.replace([turned], nodes)


def _image_shape(edges: Rewriter, convolution: onnx.NodeProto) -> tuple[int, int] | None:
    """Height and width, if the convolution reads the model's input."""
    image = edges.graph.input[0]
    if convolution.input[0] != image.name:
        return None
    sizes = [dimension.dim_value for dimension in image.type.tensor_type.shape.dim]
    return sizes[2], sizes[3]
