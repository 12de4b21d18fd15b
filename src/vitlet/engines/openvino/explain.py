"""What OpenVINO really does with an artifact: its counters, and the graph it made of the model's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitlet.engines.inputs import checked_images
from vitlet.engines.openvino.quiet import last_line
from vitlet.engines.openvino.session import answer, compile_model, read_model
from vitlet.errors import ModelUnreadable
from vitlet.records import Arithmetic, Artifact, Execution, Fusion, OperatorUse

_RUNS = 20
#: Operators that move or convert values and compute nothing.
_MOVING = {
    *(
        "Broadcast",
        "Concat",
        "Concatenation",
        "Convert",
        "Gather",
        "Input",
        "Output",
        "Const",
        "Constant",
        "Squeeze",
        "Unsqueeze",
    ),
    *("Pad", "Reorder", "Reshape", "Roll", "ShapeOf", "Split", "StridedSlice", "Tile", "Transpose", "FakeQuantize"),
}
_ARITHMETIC: dict[str, Arithmetic] = {"i8": "int8", "u8": "int8", "bf16": "bf16", "f16": "fp16", "f32": "fp32"}


@dataclass(frozen=True)
class _Node:
    """An operator as the CPU plug-in runs it; ``made_of`` are the model's operators inside."""

    name: str
    kind: str
    kernel: str
    made_of: tuple[str, ...]
    time_ms: float

    @property
    def is_attention(self) -> bool:
        """Whether it is query by key, softmax and product with the values in one."""
        whole = self.kind == "Subgraph" and any(name.startswith("Softmax") for name in self.made_of)
        return whole or self.kind == "ScaledDotProductAttention"

    @property
    def only_quantizes(self) -> bool:
        """Whether it is nothing but NNCF's rounding to int8."""
        return bool(self.made_of) and all("/fq_" in name or "nncf_smooth" in name for name in self.made_of)


def explain_model(artifact: Artifact, threads: int, images: np.ndarray) -> Execution:
    """Run ``images`` float32 [1, 3, height, width] 20 times with OpenVINO's counters on.

    Raises:
        VitletError: as for opening and running a session.
    """
    model, settings = read_model(artifact, threads)
    ready = checked_images(images, height=artifact.height, width=artifact.width)
    try:
        compiled = compile_model(model, artifact, settings, one_image=len(ready) == 1, profiled=True)
        nodes = _profiled(compiled, ready)
    except RuntimeError as error:
        raise ModelUnreadable(f"OpenVINO cannot run {artifact.path} ({last_line(error)}); export it again") from error
    as_they_come = bool(settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"])
    fusions = _fusions(model, nodes)
    return Execution(
        operators=_operators(nodes, as_they_come),
        source=f"OpenVINO's counters in {_RUNS} runs, and its runtime model",
        fusions=tuple(fusion for fusion in fusions if fusion.of),
        notes=tuple(_notes(artifact, nodes, fusions, as_they_come)),
    )


def _profiled(compiled: Any, images: np.ndarray) -> list[_Node]:
    """Every operator that was executed, in order, with its mean time over all runs."""
    request = compiled.create_infer_request()
    for _ in range(_RUNS):
        answer(request, images)
    made_of = {node.get_friendly_name(): _made_of(node) for node in compiled.get_runtime_model().get_ordered_ops()}
    return [
        _Node(
            counter.node_name,
            counter.node_type,
            counter.exec_type,
            made_of.get(counter.node_name, ()),
            counter.real_time.total_seconds() * 1e3,
        )
        for counter in request.get_profiling_info()
        # What took less than half a microsecond counts as not run, too; a reshape in place truly is not.
        if (counter.status.name == "EXECUTED" or counter.node_type not in _MOVING)
        # Ends of the graph, and operators that were fused into others and have no kernel of their own.
        and counter.node_type not in ("Parameter", "Result")
        and not counter.exec_type.startswith("undef")
    ]


def _made_of(node: Any) -> tuple[str, ...]:
    names = node.get_rt_info()["originalLayersNames"].astype(str)
    return tuple(name for name in names.split(",") if name)


def _operators(nodes: Sequence[_Node], as_they_come: bool) -> tuple[OperatorUse, ...]:
    groups: dict[tuple[str, Arithmetic], list[_Node]] = {}
    for node in nodes:
        kind = "Subgraph of attention" if node.is_attention and node.kind == "Subgraph" else node.kind
        groups.setdefault((f"{kind} {node.kernel}", _arithmetic(node, as_they_come)), []).append(node)
    used = (
        OperatorUse(name, arithmetic, len(members), sum(node.time_ms for node in members))
        for (name, arithmetic), members in groups.items()
    )
    return tuple(sorted(used, key=lambda use: -(use.time_ms or 0.0)))


def _arithmetic(node: _Node, as_they_come: bool) -> Arithmetic:
    if node.kind in _MOVING or node.only_quantizes:
        return "data"
    if as_they_come and node.kind == "FullyConnectedCompressed":
        return "int8"
    return _ARITHMETIC.get(node.kernel.rpartition("_")[2].lower(), "fp32")


def _fusions(model: Any, nodes: Sequence[_Node]) -> tuple[Fusion, ...]:
    operators = list(model.get_ops())
    attention = _named(operators, "ScaledDotProductAttention", "Softmax")
    gelu = _named(operators, "Gelu", "Swish")
    norms = [operator for operator in operators if operator.get_type_name() == "MVN"]
    plain = {norm.get_friendly_name() for norm in norms if not _is_scaled(norm)}
    whole = [n for n in nodes if n.kind == "MVN" and (len(n.made_of) > 1 or plain & set(n.made_of))]
    in_linears = [n for n in nodes if n.kind.startswith("FullyConnected") and gelu & set(n.made_of)]
    return (
        Fusion("attention", min(sum(n.is_attention for n in nodes), len(attention)), len(attention)),
        Fusion("layer norm", min(len(whole), len(norms)), len(norms)),
        Fusion("gelu", min(len(in_linears), len(gelu)), len(gelu)),
    )


def _named(operators: Iterable[Any], *kinds: str) -> set[str]:
    return {operator.get_friendly_name() for operator in operators if operator.get_type_name() in kinds}


def _is_scaled(norm: Any) -> bool:
    readers = {port.get_node().get_type_name() for port in norm.output(0).get_target_inputs()}
    return bool(readers & {"Multiply", "Add"})


def _notes(
    artifact: Artifact, nodes: Sequence[_Node], fusions: tuple[Fusion, ...], as_they_come: bool
) -> Iterable[str]:
    attention, norm, gelu = fusions
    rest = "bf16" if artifact.precision.name.endswith("bf16") else "fp32"
    if attention.done and any(_arithmetic(n, False) == "int8" for n in nodes if n.is_attention):
        yield f"Attention multiplies queries by keys in int8, and probabilities by values in {rest}."
    elif attention.done and artifact.precision.name.startswith("int"):
        yield f"The products of attention, between activations, stay in {rest}."
    if attention.done < attention.of:
        yield f"{attention.of - attention.done} of {attention.of} attentions run as several operators."
    if norm.done < norm.of:
        yield (
            f"Scale and offset of {norm.of - norm.done} of {norm.of} layer norms run as an operator of their own "
            "behind the normalisation, together with the rounding to int8 where there is one."
        )
    if gelu.done < gelu.of:
        yield f"{gelu.of - gelu.done} of {gelu.of} GELUs run behind their linear and not inside it."
    if as_they_come:
        yield (
            "Linears quantize their inputs to int8 as they come; OpenVINO's counters call that f32, after what goes "
            "in and out."
        )
    elif artifact.precision.name.endswith("weights"):
        yield "Linears turn their small weights to fp32 before each product, so that they are no faster than fp32."
    slow = sorted({node.kind for node in nodes if node.kernel.startswith("ref_") and node.kind not in _MOVING})
    if slow:
        yield f"These operators run in plain code without vector instructions: {', '.join(slow)}."
