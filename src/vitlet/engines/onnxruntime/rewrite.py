"""An ONNX graph that can be searched by its edges and rewritten node by node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

#: The operators that ONNX Runtime adds to the standard's.
CONTRIB = "com.microsoft"


class Rewriter:
    """``graph`` with its edges; nodes are replaced here and the graph is changed by ``finish``."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.producers: dict[str, onnx.NodeProto] = {}
        self.consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.output:
                self.producers[name] = node
            for name in read_by(node):
                self.consumers[name].append(node)
        self._results = {output.name for output in graph.output}
        self._taken = {*self.constants, *self.producers, *(i.name for i in graph.input)}
        self._replaced: dict[int, list[onnx.NodeProto]] = {}

    def producer(self, name: str, *kinds: str) -> onnx.NodeProto | None:
        """The node that makes ``name``, if it is of one of these kinds."""
        node = self.producers.get(name)
        return node if node is not None and node.op_type in kinds else None

    def only_consumer(self, name: str, *kinds: str) -> onnx.NodeProto | None:
        """The one node that reads ``name``, if there is one, of these kinds, and it is no result."""
        readers = self.consumers[name]
        if len(readers) != 1 or name in self._results or readers[0].op_type not in kinds:
            return None
        return readers[0]

    def value(self, name: str) -> np.ndarray | None:
        """The constant ``name``; ``None`` if it is computed."""
        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def ints(self, name: str) -> list[int] | None:
        """The constant ``name`` as a flat list of integers; ``None`` if it is computed or not of integers."""
        value = self.value(name)
        return None if value is None or value.dtype.kind != "i" else [int(item) for item in value.ravel()]

    def constant(self, name: str, value: np.ndarray) -> str:
        """Put a constant into the graph; its name is ``name``, or that with a number where it is taken."""
        name = self.fresh(name)
        tensor = numpy_helper.from_array(np.array(value, order="C"), name)
        self.constants[name] = tensor
        self.graph.initializer.append(tensor)
        return name

    def fresh(self, name: str) -> str:
        """A name that nothing in the graph has yet."""
        chosen, number = name, 1
        while chosen in self._taken:
            chosen, number = f"{name}_{number}", number + 1
        self._taken.add(chosen)
        return chosen

    def replace(self, old: Sequence[onnx.NodeProto], new: Sequence[onnx.NodeProto]) -> None:
        """Put ``new`` in the place of the last of ``old``; the others go with ``finish`` unless still read."""
        self._replaced[id(old[-1])] = list(new)

    def finish(self) -> None:
        """Write the replacements into the graph and drop what no result needs any more."""
        nodes: list[onnx.NodeProto] = []
        for node in self.graph.node:
            nodes.extend(self._replaced.get(id(node), [node]))
        set_nodes(self.graph, nodes)
        drop_unused(self.graph)


def node(kind: str, inputs: Sequence[str], output: str, *, domain: str = "", **attributes: Any) -> onnx.NodeProto:
    """A node with one output, named after it."""
    return helper.make_node(kind, list(inputs), [output], name=f"{output}/{kind}", domain=domain, **attributes)


def attribute(found: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """A node's attribute as a plain value."""
    for item in found.attribute:
        if item.name == name:
            return helper.get_attribute_value(item)
    return default


def read_by(found: onnx.NodeProto) -> set[str]:
    """Every name that a node reads, those that its sub-graphs (If, Loop) read included."""
    names = {name for name in found.input if name}
    for item in found.attribute:
        for graph in (item.g, *item.graphs):
            for inner in graph.node:
                names |= read_by(inner)
            names |= {output.name for output in graph.output}
    return names


def set_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Make ``nodes`` the graph's nodes."""
    kept = [onnx.NodeProto.FromString(item.SerializeToString()) for item in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove the nodes and constants from which no result follows, and the notes on shapes."""
    needed = {output.name for output in graph.output}
    kept = []
    for item in reversed(graph.node):
        if needed.intersection(item.output):
            kept.append(item)
            needed |= read_by(item)
    set_nodes(graph, reversed(kept))
    unused = [number for number, tensor in enumerate(graph.initializer) if tensor.name not in needed]
    for number in reversed(unused):
        del graph.initializer[number]
    del graph.value_info[:]


def use_contrib(model: onnx.ModelProto) -> None:
    """Declare that the model uses ONNX Runtime's own operators."""
    if all(known.domain != CONTRIB for known in model.opset_import):
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
