"""What the native library does with an artifact, by its own clock."""

from __future__ import annotations

import json

import numpy as np

from vitlet.engines.native.session import NativeSession
from vitlet.models.safetensors_file import read_header
from vitlet.records import Arithmetic, Artifact, Execution, Fusion, OperatorUse

_RUNS = 20


def explain_native(artifact: Artifact, threads: int, images: np.ndarray) -> Execution:
    """The phases of a run, and their time shared between the threads.

    Raises:
        VitletError: as for ``NativeSession``.
    """
    session = NativeSession(artifact, threads)
    session.run(images)
    spent = session.phases_ms(images, _RUNS)
    depth = _depth(artifact)
    products: Arithmetic = "int8" if artifact.precision.name == "int8-dynamic" else "fp32"
    kinds: dict[str, tuple[Arithmetic, int]] = {
        "embed": (products, 1),
        "norm": ("fp32", 2 * depth),
        "qkv": (products, depth),
        "attention": (products, 2 * depth),
        "softmax": ("fp32", depth),
        "projection": (products, depth),
        "up": (products, depth),
        "activation": ("fp32", depth),
        "down": (products, depth),
        "epilogue": ("fp32", 3 * depth + 2),
        "quantize": ("data", 3 * depth),
        "head": (products, 1),
        "wait": ("data", depth + 1),
    }
    uses = [OperatorUse(name, *kinds[name], spent[name] / threads) for name in spent]
    return Execution(
        operators=tuple(sorted(uses, key=lambda use: -(use.time_ms or 0.0))),
        source=f"the library's clock over {_RUNS} runs, on {session.instruction_set}",
        fusions=(
            Fusion("attention", depth, depth),
            Fusion("layer norm", 2 * depth, 2 * depth),
            Fusion("gelu", depth, depth),
        ),
        notes=(
            "The way back from int32 is part of softmax (between the products of attention), of the activation (after "
            "up) and of the epilogue (after the other linears, with the residual).",
            "Of the last block only the tokens that the head reads are computed.",
        ),
    )


def _depth(artifact: Artifact) -> int:
    return len(json.loads(read_header(artifact.path).metadata["vitlet"])["blocks"])
