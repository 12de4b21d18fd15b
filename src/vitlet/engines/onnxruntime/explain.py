"""What ONNX Runtime did with an artifact, from its own profile of a few runs."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlet.engines.inputs import checked_images, checked_threads
from vitlet.engines.onnxruntime.session import OnnxSession, load, session_options
from vitlet.errors import Unsupported
from vitlet.records import Arithmetic, Artifact, Execution, Fusion, OperatorUse

if TYPE_CHECKING:
    import numpy as np

_RUNS = 20
_MOVES = {
    *("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Split", "Concat", "Slice", "Gather", "Expand"),
    *("Cast", "Shape", "Identity", "Pad", "ReorderInput", "ReorderOutput", "ConstantOfShape", "Where", "Equal"),
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Memcpy"),
}
_INT8 = {
    *("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulInteger", "ConvInteger"),
    *("QLinearMatMul", "QLinearConv", "QGemm", "QAttention"),
}
_ATTENTION = {"Attention", "MultiHeadAttention", "QAttention"}
_GELU = {"Gelu", "BiasGelu", "FastGelu", "QuickGelu"}
_LAYER_NORM = {"LayerNormalization", "SkipLayerNormalization"}


def explain_onnx(artifact: Artifact, threads: int, images: np.ndarray) -> Execution:
    """Run ``images`` float32 [batch, 3, height, width] some times under the profiler.

    Raises:
        Unsupported: ONNX Runtime cannot write its profile.
        VitletError: as for opening and running.
    """
    ready = checked_images(images, height=artifact.height, width=artifact.width)
    with tempfile.TemporaryDirectory(prefix="vitlet-") as folder:
        events = _profile(artifact, threads, ready, Path(folder))
    runs: dict[tuple[str, Arithmetic], list[float]] = defaultdict(list)
    for event in events:
        kind = event["args"]["op_name"]
        runs[kind, _arithmetic(kind, event["args"], artifact)].append(event["dur"] / 1000)
    operators = [
        OperatorUse(kind, arithmetic, max(1, round(len(times) / _RUNS)), sum(times) / _RUNS)
        for (kind, arithmetic), times in runs.items()
    ]
    operators.sort(key=lambda use: -(use.time_ms or 0))
    counts: dict[str, int] = defaultdict(int)
    for use in operators:
        counts[use.name] += use.count
    source = f"ONNX Runtime's profile of {_RUNS} runs"
    return Execution(tuple(operators), source, fusions=_fusions(counts), notes=_notes(counts, artifact))


def _profile(artifact: Artifact, threads: int, images: np.ndarray, folder: Path) -> list[dict[str, Any]]:
    """The kernel events of ``_RUNS`` runs, after two that warm up."""
    options = session_options(checked_threads(threads))
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    inference = load(artifact, options)
    session = OnnxSession(inference, artifact)
    for _ in range(2 + _RUNS):
        session.run(images)
    try:
        events = json.loads(Path(inference.end_profiling()).read_bytes())
    except (OSError, ValueError) as error:
        raise Unsupported(f"ONNX Runtime's profile cannot be read ({error}); free some space for it") from error
    finally:
        session.close()
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    if not kernels:
        raise Unsupported("ONNX Runtime's profile names no operators; it was built without its profiler")
    return kernels[len(kernels) * 2 // (2 + _RUNS) :]


def _arithmetic(kind: str, args: Mapping[str, Any], artifact: Artifact) -> Arithmetic:
    if kind in _MOVES:
        return "data"
    if kind in _INT8:
        return "int8"
    inputs = [name for shape in args.get("input_type_shape", []) for name in shape]
    if kind == "MatMulNBits":
        return "int8" if artifact.precision.name == "int4-dynamic" else "fp32"
    if "float16" in inputs:
        return "fp16"
    if "bfloat16" in inputs:
        return "bf16"
    return "fp32" if any(name in ("float", "double") for name in inputs) else "data"


def _fusions(counts: Mapping[str, int]) -> tuple[Fusion, ...]:
    """What is one operator of how many there are: what is left apart shows by its Softmax or Erf, or by
    the two means, difference and root of a layer norm.
    """
    fused = {
        "attention": (_sum(counts, _ATTENTION), counts.get("Softmax", 0)),
        "layer norm": (_sum(counts, _LAYER_NORM), _norms_apart(counts)),
        "gelu": (_sum(counts, _GELU), counts.get("Erf", 0)),
    }
    return tuple(Fusion(what, done, done + apart) for what, (done, apart) in fused.items() if done + apart)


def _norms_apart(counts: Mapping[str, int]) -> int:
    """How many layer norms run as several operators."""
    return min(counts.get("ReduceMean", 0) // 2, counts.get("Sub", 0), counts.get("Sqrt", 0))


def _notes(counts: Mapping[str, int], artifact: Artifact) -> tuple[str, ...]:
    notes = []
    name = artifact.precision.name
    integers = name.startswith("int8") or name == "int4-dynamic"
    attention, products = _sum(counts, _ATTENTION), counts.get("MatMul", 0) + counts.get("FusedMatMul", 0)
    convolutions = counts.get("Conv", 0)
    if integers and attention:
        notes.append(
            f"The products inside attention stay in fp32 ({attention} operators): ONNX Runtime has no int8 kernel for "
            "them that is faster at a ViT's sizes."
        )
    if integers and products:
        notes.append(f"{products} products between activations stay in fp32.")
    if name != "fp32" and convolutions:
        notes.append(f"{convolutions} convolutions stay in fp32; only linears and patch embeddings are quantized.")
    if name == "int4-weights":
        notes.append("The int4 weights save memory and no time: they are unpacked to fp32 before each product.")
    if name == "int4-dynamic":
        notes.append("The products are int8: weights are unpacked from int4, activations quantized as they come.")
    if counts.get("Softmax"):
        notes.append(f"{counts['Softmax']} attentions are of a form that ONNX Runtime cannot run as one operator.")
    norms, norms_apart = _sum(counts, _LAYER_NORM), _norms_apart(counts)
    if norms_apart:
        notes.append(f"{norms_apart} of {norms + norms_apart} layer norms run as several operators.")
    return tuple(notes)


def _sum(counts: Mapping[str, int], kinds: set[str]) -> int:
    return sum(counts.get(kind, 0) for kind in kinds)
