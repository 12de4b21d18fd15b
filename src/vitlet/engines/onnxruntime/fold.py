"""Computing beforehand what does not depend on the pixels.

An exporter that leaves the batch open writes every reshape as arithmetic on the shape of some
tensor: some 400 small operators in DeiT-S, which cost time in each inference and hide the patterns
that ``fusion`` looks for. Only the batch is open, so nearly all of them are constants.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import onnx

from vitlet.engines.onnxruntime.rewrite import Rewriter, attribute, drop_unused, read_by, set_nodes

_INPUT = "images"
_NEVER_CONSTANT = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}


def fold_known(model: onnx.ModelProto) -> None:
    """Replace what is the same for every image by constants, in place.

    It is computed with batches of 1 and of 2. A value that both agree on is a constant; a Reshape whose
    result grows with the batch in one place gets a constant shape with -1 there.
    """
    graph = model.graph
    _constants_to_initializers(graph)
    edges = Rewriter(graph)
    known = _known_names(graph, edges.constants)
    live = [item for item in graph.node if item.output[0] not in known]
    names = sorted(known & {name for item in live for name in read_by(item)} & set(edges.producers))
    reshapes = [item for item in live if item.op_type == "Reshape" and item.input[1] in names]
    probes = names + [item.output[0] for item in reshapes]
    if not probes:
        return
    one, two = (_evaluate(model, probes, batch) for batch in (1, 2))
    for name, first, second in zip(names, one, two, strict=False):
        if np.array_equal(first, second):
            _read_instead(live, name, edges.constant(f"{name}/known", first))
    for item, first, second in zip(reshapes, one[len(names) :], two[len(names) :], strict=True):
        shape = _open_batch(first.shape, second.shape)
        if shape is not None:
            item.input[1] = edges.constant(f"{item.output[0]}/shape", np.array(shape, np.int64))
    drop_unused(graph)


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    """Have one kind of constant, and no Identity between a value and its reader."""
    same: dict[str, str] = {}
    results = {output.name for output in graph.output}
    kept = []
    for item in graph.node:
        for place, name in enumerate(item.input):
            item.input[place] = same.get(name, name)
        value = attribute(item, "value") if item.op_type == "Constant" else None
        if value is not None:
            tensor = graph.initializer.add()
            tensor.CopyFrom(value)
            tensor.name = item.output[0]
        elif item.op_type == "Identity" and item.output[0] not in results:
            same[item.output[0]] = item.input[0]
        else:
            kept.append(item)
    set_nodes(graph, kept)


def _known_names(graph: onnx.GraphProto, constants: Collection[str]) -> set[str]:
    """Everything that follows from constants and the shapes of tensors alone."""
    known = set(constants)
    for item in graph.node:
        depends = {name for name in read_by(item) if name not in known}
        if item.op_type not in _NEVER_CONSTANT and (item.op_type in ("Shape", "Size") or not depends):
            known.update(item.output)
    return known


def _evaluate(model: onnx.ModelProto, names: list[str], batch: int) -> list[np.ndarray]:
    from vitlet.engines.onnxruntime.run import run_once

    sizes = [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return run_once(probe, {_INPUT: np.zeros((batch, *sizes[1:]), np.float32)}, names)


def _read_instead(nodes: Iterable[onnx.NodeProto], name: str, new: str) -> None:
    for item in nodes:
        for place, read in enumerate(item.input):
            if read == name:
                item.input[place] = new


def _open_batch(one: Sequence[int], two: Sequence[int]) -> list[int] | None:
    """The shape for any batch, if one of its entries alone grows with the batch, in proportion to it."""
    places = [place for place, (first, second) in enumerate(zip(one, two, strict=False)) if first != second]
    if len(one) != len(two) or len(places) > 1 or any(two[place] != 2 * one[place] for place in places):
        return None
    return [-1 if place in places else size for place, size in enumerate(one)]
