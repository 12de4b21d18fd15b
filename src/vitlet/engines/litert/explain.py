"""What LiteRT does with a ``.tflite``: its operators, and whether XNNPACK took them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from vitlet.engines.litert.session import open_interpreter
from vitlet.records import Arithmetic, Artifact, Execution, Fusion, OperatorUse

#: Operators that only move or convert values.
_DATA = frozenset(
    {
        *("BROADCAST_TO", "CAST", "CONCATENATION", "DEQUANTIZE", "EXPAND_DIMS", "GATHER", "PACK", "PAD"),
        *("QUANTIZE", "RESHAPE", "SLICE", "SPLIT", "SQUEEZE", "STRIDED_SLICE", "TRANSPOSE", "UNPACK"),
    }
)
_PRODUCTS = ("FULLY_CONNECTED", "CONV_2D", "BATCH_MATMUL")


def explain_litert(artifact: Artifact, threads: int) -> Execution:
    """The operators of the file by their arithmetic; the interpreter's Python package has no profiler.

    Raises:
        VitletError: as for ``open_interpreter``.
    """
    interpreter = open_interpreter(artifact, threads)
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    operators = interpreter._get_ops_details()
    counts = Counter((op["op_name"], _arithmetic(op, tensors)) for op in operators if op["op_name"] != "DELEGATE")
    uses = [OperatorUse(name, kind, count) for (name, kind), count in counts.items()]
    names = Counter(op["op_name"] for op in operators)
    return Execution(
        operators=tuple(sorted(uses, key=lambda use: (-use.count, use.name))),
        source="the operators of the file; LiteRT's Python package has no profiler",
        fusions=_fusions(names),
        notes=tuple(_notes(counts, names["DELEGATE"])),
    )


def _arithmetic(operator: dict[str, Any], tensors: dict[int, dict[str, Any]]) -> Arithmetic:
    name = operator["op_name"]
    if name in _DATA:
        return "data"
    types = [tensors[at]["dtype"] for at in operator["inputs"] if at in tensors]
    # float32 activations with int8 weights are quantized as they come, and multiplied in int8.
    small = name in _PRODUCTS and len(types) > 1 and types[1] is np.int8
    return "int8" if small or (types and types[0] is np.int8) else "fp32"


def _fusions(names: Counter[str]) -> tuple[Fusion, ...]:
    """XNNPACK has an operator for GELU, and none for attention or LayerNorm."""
    parts = (
        Fusion("attention", 0, names["SOFTMAX"]),
        Fusion("layer norm", 0, names["RSQRT"]),
        Fusion("gelu", names["GELU"], names["GELU"]),
    )
    return tuple(part for part in parts if part.of)


def _notes(counts: Counter[tuple[str, Arithmetic]], pieces: int) -> list[str]:
    total = sum(counts.values())
    if pieces == 0:
        notes = [f"XNNPACK took none of the {total} operators: LiteRT's own kernels run them."]
    elif pieces == 1:
        notes = [f"XNNPACK took the graph of {total} operators in one piece."]
    else:
        notes = [f"XNNPACK took the graph of {total} operators in {pieces} pieces; LiteRT's own kernels run the rest."]
    products = sum(count for (name, kind), count in counts.items() if name in _PRODUCTS and kind == "int8")
    if products:
        notes.append(f"{products} products run in int8.")
    floats = counts["BATCH_MATMUL", "fp32"]
    if products and floats:
        notes.append(f"Attention products stay in fp32: {floats} BATCH_MATMUL between activations.")
    if counts["RSQRT", "fp32"]:
        notes.append("LiteRT has no LayerNorm: each is MEAN, SQUARED_DIFFERENCE, MEAN, RSQRT, SUB and MUL.")
    turned = counts["DEQUANTIZE", "data"]
    if turned and not products:
        notes.append(f"{turned} int8 weights are turned to fp32 when the file is opened: no product runs in int8.")
    moves = sum(count for (_, kind), count in counts.items() if kind == "data")
    if moves:
        notes.append(f"{moves} operators only move or convert values.")
    notes.append("A batch is run image by image: the converter takes no open batch size.")
    return notes
