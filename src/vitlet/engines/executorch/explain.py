"""What ExecuTorch does with a ``.pte``, from the record that was written into it on export."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from vitlet.engines.trailer import read_record
from vitlet.errors import ModelUnreadable
from vitlet.records import Arithmetic, Artifact, Execution, Fusion, OperatorUse


class _Graph(msgspec.Struct):
    delegated: list[tuple[str, Arithmetic, int]]
    undelegated: dict[str, int]
    graphs: int
    parts: dict[str, int]


def explain_executorch(artifact: Artifact) -> Execution:
    """The operators of XNNPACK's graphs, and those that were left to ExecuTorch's own kernels.

    Raises:
        ModelNotFound: there is no such file.
        ModelUnreadable: damaged, foreign, or another artifact.
    """
    try:
        graph = msgspec.convert(read_record(artifact).get("graph"), _Graph)
    except msgspec.ValidationError as error:
        raise ModelUnreadable(f"{artifact.path} does not say what it computes ({error}); export it again") from error
    delegated = [OperatorUse(f"xnnpack.{name}", kind, count) for name, kind, count in graph.delegated]
    others = [OperatorUse(name, _kind(name), count) for name, count in graph.undelegated.items()]
    return Execution(
        operators=tuple(sorted(delegated + others, key=lambda use: (-use.count, use.name))),
        source="XNNPACK's graph as written on export; ExecuTorch's Python package has no profiler",
        fusions=_fusions(graph),
        undelegated=graph.undelegated,
        notes=tuple(_notes(graph)),
    )


def _kind(name: str) -> Arithmetic:
    moving = ("copy", "expand", "permute", "squeeze", "select", "slice", "view", "clone", "cat", "quantize")
    return "data" if any(word in name for word in moving) else "fp32"


def _fusions(graph: _Graph) -> tuple[Fusion, ...]:
    """XNNPACK in ExecuTorch has one operator for GELU and none for attention or LayerNorm."""
    gelus = sum(count for name, _, count in graph.delegated if name == "Gelu")
    norms = sum(count for name, count in graph.undelegated.items() if "native_layer_norm" in name)
    done = {"attention": 0, "layer norm": norms, "gelu": gelus}
    return tuple(Fusion(what, min(done[what], of), of) for what, of in graph.parts.items() if of)


def _counted(graph: _Graph) -> Mapping[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for name, kind, count in graph.delegated:
        found[name, kind] = found.get((name, kind), 0) + count
    return found


def _notes(graph: _Graph) -> list[str]:
    counts = _counted(graph)
    inside = sum(counts.values())
    outside = sum(graph.undelegated.values())
    times = "one XNNPACK graph" if graph.graphs == 1 else f"{graph.graphs} XNNPACK graphs"
    notes = [f"{inside} operators run inside {times}, {outside} in ExecuTorch's own kernels."]
    products = counts.get(("BatchMatrixMultiply", "fp32"), 0)
    if products and any(kind in ("int8", "int4") for _, kind in counts):
        notes.append(f"Attention products stay in fp32: {products} BatchMatrixMultiply between activations.")
    if graph.parts.get("layer norm") and not any("native_layer_norm" in name for name in graph.undelegated):
        notes.append(
            "XNNPACK has no LayerNorm: each is 2 FullyConnected (the means), Subtract, Multiply, Add and "
            "ReciprocalSquareRoot, so that the graph is not cut in two there."
        )
    moves = sum(count for (_, kind), count in counts.items() if kind == "data")
    if moves:
        notes.append(f"{moves} operators inside XNNPACK only move or convert values.")
    notes.append("The batch is run image by image: XNNPACK takes no open batch size.")
    return notes
