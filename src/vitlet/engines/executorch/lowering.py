"""From an exported program to the bytes of a ``.pte`` for XNNPACK, and what became of its operators."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

#: What XNNPACK's nodes do that only move or convert.
_MOVING = {
    "StaticTranspose",
    "StaticReshape",
    "StaticSlice",
    "StaticConstantPad",
    "Convert",
    "Copy",
    *(f"Concatenate{parts}" for parts in (2, 3, 4, 5)),
}

#: XNNPACK's passes over the graph that do nothing unless it has such an operator. Each costs seconds, since
#: the whole graph is traced again behind it.
_PASSES_FOR = {
    "ConvertToUpsampleBilinear2d": "upsample",
    "ConvertToSDPAPass": "scaled_dot_product",
    "FuseBatchNormPass": "batch_norm",
    "DecomposeBatchNorm": "batch_norm",
    "PReLUReshapePass": "prelu",
}


def lowered(program: torch.export.ExportedProgram) -> tuple[bytes, dict[str, Any]]:
    """The file's bytes and a record of the graph: ``delegated`` as [XNNPACK's operator, arithmetic, number],
    ``undelegated`` as {operator: number}, ``graphs`` as the number of XNNPACK graphs.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    with _flatbuffer_compiler(), _without_collector(), _needed_passes_only(), _seen_graphs() as graphs:
        edge = to_edge_transform_and_lower(
            program, partitioner=[XnnpackPartitioner()], compile_config=EdgeCompileConfig(_check_ir_validity=False)
        )
        content = edge.to_executorch().buffer
    delegated: Counter[tuple[str, str]] = Counter()
    for graph in graphs:
        delegated.update(_operators(graph))
    return content, {
        "delegated": [[name, arithmetic, count] for (name, arithmetic), count in delegated.items()],
        "undelegated": dict(_undelegated(edge.exported_program())),
        "graphs": len(graphs),
    }


def _undelegated(program: torch.export.ExportedProgram) -> Counter[str]:
    found: Counter[str] = Counter()
    for node in program.graph_module.graph.nodes:
        name = getattr(node.target, "__name__", str(node.target))
        if node.op == "call_function" and name not in ("getitem", "executorch_call_delegate", "alloc"):
            found[name] += 1
    return found


def _operators(graph: Any) -> Counter[tuple[str, str]]:
    """The nodes of one of XNNPACK's graphs as (operator, arithmetic)."""
    kinds: dict[int, str] = {}
    for value in graph.xvalues:
        inner = value.xvalue_union
        tensor = getattr(inner, "tensor_value", inner)
        kinds[tensor.id_out] = tensor.datatype.name.removeprefix("xnn_datatype_")
    found: Counter[tuple[str, str]] = Counter()
    for node in graph.xnodes:
        name = type(node.xnode_union).__name__.removeprefix("XNN").lstrip("_")
        deciding = getattr(node.xnode_union, "filter_id", node.xnode_union.output_id)
        found[name, "data" if name in _MOVING else _arithmetic(kinds.get(deciding, "fp32"))] += 1
    return found


def _arithmetic(kind: str) -> str:
    """XNNPACK's data type in vitlet's words: "qcint8" is int8, "qbint4" is int4."""
    for arithmetic in ("int4", "int8", "fp16", "bf16"):
        if kind.endswith(arithmetic):
            return arithmetic
    return "fp32"


@contextmanager
def _seen_graphs() -> Iterator[list[Any]]:
    """Collect each XNNPACK graph as it is written; nothing can read them back out of the file."""
    from executorch.backends.xnnpack import xnnpack_preprocess

    write, seen = xnnpack_preprocess.serialize_xnnpack_binary, []

    def look_and_write(graph: Any, constants: Any) -> Any:
        seen.append(graph)
        return write(graph, constants)

    with mock.patch.object(xnnpack_preprocess, "serialize_xnnpack_binary", look_and_write):
        yield seen


@contextmanager
def _needed_passes_only() -> Iterator[None]:
    """Leave out XNNPACK's passes for operators that the graph does not have."""
    from executorch.backends.xnnpack import xnnpack_preprocess

    manager = xnnpack_preprocess.XNNPACKPassManager

    def chosen(program: Any, passes: Any = None) -> Any:
        made = manager(program, passes)
        names = " ".join(str(node.target) for node in program.graph.nodes)
        made.passes = [kind for kind in made.passes if _PASSES_FOR.get(kind.__name__, "") in names]
        return made

    with mock.patch.object(xnnpack_preprocess, "XNNPACKPassManager", chosen):
        yield


@contextmanager
def _flatbuffer_compiler() -> Iterator[None]:
    """Let the exporter find the ``flatc`` that comes with it, also where no environment is activated."""
    import executorch.data.bin
    from executorch.exir._serialize import _flatbuffer

    (folder,) = executorch.data.bin.__path__
    own = next(Path(folder).glob("flatc*"), None)
    if own is None:
        yield
        return
    with mock.patch.object(_flatbuffer, "_get_flatc_path", return_value=str(own)):
        yield


@contextmanager
def _without_collector() -> Iterator[None]:
    """The exporter makes millions of short-lived objects; looking for cycles among them takes a
    quarter of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
