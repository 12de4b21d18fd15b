"""Write a classifier as a model file of the native library: exact rewrites, then int8 by output channel.

    python native/tools/write_model.py deit_small_patch16_224 model.safetensors --random-weights

To become ``vitlet.engines.native``'s export.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from vitlet.pipeline import load
from vitlet.records import Classifier

Arrays = dict[str, np.ndarray]


def quantized(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[outputs, inputs] -> int8 of the same shape, and float32 [outputs]: the weight is scale * int8."""
    scale = np.abs(weight).max(axis=1) / 127
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    return np.clip(np.rint(weight / scale[:, None]), -127, 127).astype(np.int8), scale


class Writer:
    """Collects the tensors of one file."""

    def __init__(self, precision: str) -> None:
        self.int8 = precision == "int8-dynamic"
        self.tensors: Arrays = {}

    def linear(self, name: str, weight: np.ndarray, bias: np.ndarray) -> None:
        if self.int8:
            self.tensors[f"{name}.weight"], self.tensors[f"{name}.scale"] = quantized(weight)
        else:
            self.floats(f"{name}.weight", weight)
        self.floats(f"{name}.bias", bias)

    def floats(self, name: str, values: np.ndarray) -> None:
        self.tensors[name] = np.ascontiguousarray(values, np.float32)


def tensors_of(classifier: Classifier, precision: str) -> Arrays:
    a = classifier.architecture
    state = {name: tensor.detach().double().numpy() for name, tensor in classifier.module.state_dict().items()}
    writer = Writer(precision)
    write_embedding(writer, classifier, state)
    for number in range(a.depth):
        write_block(writer, state, f"blocks.{number}.", a.width, a.heads)
    for name in ("pre_norm", "final_norm", "pool_norm"):
        if f"{name}.weight" in state:
            writer.floats(f"{name}.weight", state[f"{name}.weight"])
            writer.floats(f"{name}.bias", state[f"{name}.bias"])
    for name, source in (("pre_logits", "pre_logits.0"), ("head", "head"), ("distillation_head", "distillation_head")):
        if f"{source}.weight" in state:
            writer.linear(name, state[f"{source}.weight"], state[f"{source}.bias"])
    return writer.tensors


def write_embedding(writer: Writer, classifier: Classifier, state: Arrays) -> None:
    """The patch embedding on pixels 0..255: (pixel - mean) / std is folded into it.

    The bias is made with the rounded weights, so that their errors are multiplied with pixel - mean and not with
    the pixel.
    """
    a, spec = classifier.architecture, classifier.image_spec
    std = np.repeat(255 * np.asarray(spec.std, np.float64), a.patch**2)
    mean = np.repeat(255 * np.asarray(spec.mean, np.float64), a.patch**2)
    weight = state["embed.weight"].reshape(a.width, -1) / std
    used = weight
    if writer.int8:
        rounded, scale = quantized(weight)
        used = rounded * scale.astype(np.float64)[:, None]
    writer.linear("embed", weight, state.get("embed.bias", np.zeros(a.width)) - used @ mean)
    writer.floats("prefix", state["prefix"][0])
    writer.floats("position", state["position"][0])


def write_block(writer: Writer, state: Arrays, block: str, width: int, heads: int) -> None:
    """LayerNorm's affine goes into the next linear, LayerScale into the last; queries carry log2(e) / sqrt(width)."""
    factor, offset = state[f"{block}attention_norm.weight"], state[f"{block}attention_norm.bias"]
    weight = state[f"{block}attention.qkv.weight"]
    bias = state.get(f"{block}attention.qkv.bias", np.zeros(3 * width)) + weight @ offset
    query = np.ones(3 * width)
    query[:width] = math.log2(math.e) / math.sqrt(width // heads)
    writer.linear(f"{block}qkv", weight * factor * query[:, None], bias * query)
    scale = state.get(f"{block}attention_scale.gamma", np.ones(width))
    weight, bias = state[f"{block}attention.projection.weight"], state[f"{block}attention.projection.bias"]
    writer.linear(f"{block}projection", weight * scale[:, None], bias * scale)
    factor, offset = state[f"{block}mlp_norm.weight"], state[f"{block}mlp_norm.bias"]
    weight = state[f"{block}mlp.up.weight"]
    writer.linear(f"{block}up", weight * factor, state[f"{block}mlp.up.bias"] + weight @ offset)
    scale = state.get(f"{block}mlp_scale.gamma", np.ones(width))
    weight, bias = state[f"{block}mlp.down.weight"], state[f"{block}mlp.down.bias"]
    writer.linear(f"{block}down", weight * scale[:, None], bias * scale)


def configuration(classifier: Classifier, precision: str) -> dict[str, object]:
    a, spec = classifier.architecture, classifier.image_spec
    same = (
        "image_height",
        "image_width",
        "patch",
        "width",
        "classes",
        "prefix_tokens",
        "pool",
        "pre_norm",
        "final_norm",
    )
    same += ("pool_norm", "pre_logits", "activation", "norm_eps")
    block = {"heads": a.heads, "head_width": a.width // a.heads, "mlp_width": a.mlp_width}
    return {
        "format": 1,
        "precision": precision,
        **{name: getattr(a, name) for name in same},
        "distilled": a.distillation_token,
        "blocks": [block] * a.depth,
        "mean": list(spec.mean),
        "std": list(spec.std),
        "labels": list(classifier.labels),
    }


def write(classifier: Classifier, precision: str, path: Path) -> None:
    metadata = {"vitlet": json.dumps(configuration(classifier, precision))}
    save_file(tensors_of(classifier, precision), path, metadata=metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("path", type=Path)
    parser.add_argument("--precision", choices=("int8-dynamic", "fp32"), default="int8-dynamic")
    parser.add_argument("--random-weights", action="store_true")
    options = parser.parse_args()
    write(load(options.model, random_weights=options.random_weights), options.precision, options.path)


if __name__ == "__main__":
    main()
