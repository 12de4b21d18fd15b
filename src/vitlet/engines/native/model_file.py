"""Writing a classifier as a model file of the native library: exact rewrites, then int8 by output channel.

The file is safetensors. Its metadata has two JSON texts: "vitlet" is the configuration, which the library reads
(``native/src/config.cpp`` has the limits), and "image_spec" says how an image becomes the pixels that it takes.
"""

from __future__ import annotations

import json
import math
from typing import TypeAlias

import numpy as np
from safetensors.numpy import save

from vitlet.engines.native.rounding import centred, rounded, rounded_for_pixels
from vitlet.errors import Unsupported
from vitlet.records import Classifier, Precision, VitArchitecture, to_json

FORMAT = 1

#: The library's own limits (``native/src/config.cpp``, ``model.cpp``), where vitlet's others do not imply them.
_MOST_TOKENS = 65_536
_MOST_INT8_INPUTS = 65_536  # so many products of a byte and an int8 stay within int32

Arrays: TypeAlias = dict[str, np.ndarray]


def model_file(classifier: Classifier, precision: Precision) -> bytes:
    """The content of the file.

    Raises:
        Unsupported: the model is no canonical ViT, or too large for the library.
    """
    architecture = classifier.architecture
    if not isinstance(architecture, VitArchitecture):
        raise Unsupported(
            f"{classifier.reference} is no canonical ViT, and the native engine runs no other; use another engine"
        )
    _require_limits(classifier.reference, architecture, precision)
    metadata = {
        "vitlet": json.dumps(_configuration(classifier, architecture, precision)),
        "image_spec": json.dumps(to_json(classifier.image_spec)),
    }
    return save(_tensors(classifier, architecture, precision), metadata)


def _require_limits(reference: str, a: VitArchitecture, precision: Precision) -> None:
    rows, columns = a.grid
    tokens = a.prefix_tokens + rows * columns
    if tokens > _MOST_TOKENS:
        raise Unsupported(f"{reference} has {tokens} tokens; the native engine takes up to {_MOST_TOKENS}")
    inputs = max(3 * a.patch**2, a.mlp_width, 2 * a.width, a.pre_logits)
    if precision.name == "int8-dynamic" and inputs > _MOST_INT8_INPUTS:
        raise Unsupported(
            f"{reference} has a linear of {inputs} inputs; the native engine takes up to {_MOST_INT8_INPUTS} in int8"
        )


class _Writer:
    """Collects the tensors of one file."""

    def __init__(self, precision: Precision) -> None:
        self.int8 = precision.name == "int8-dynamic"
        self.tensors: Arrays = {}

    def linear(self, name: str, weight: np.ndarray, bias: np.ndarray) -> None:
        """weight: [outputs, inputs]; bias: [outputs]."""
        if self.int8:
            self.int8_linear(name, *rounded(weight), bias)
        else:
            self.floats(f"{name}.weight", weight)
            self.floats(f"{name}.bias", bias)

    def linear_after_norm(self, name: str, weight: np.ndarray, bias: np.ndarray) -> None:
        """The same of a linear whose inputs sum to zero."""
        self.linear(name, centred(weight) if self.int8 else weight, bias)

    def int8_linear(self, name: str, weight: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> None:
        """weight: int8 [outputs, inputs]; scale, bias: [outputs]."""
        self.tensors[f"{name}.weight"] = weight
        self.tensors[f"{name}.scale"] = scale
        self.floats(f"{name}.bias", bias)

    def floats(self, name: str, values: np.ndarray) -> None:
        self.tensors[name] = np.ascontiguousarray(values, np.float32)


def _tensors(classifier: Classifier, a: VitArchitecture, precision: Precision) -> Arrays:
    # In double precision, so that folding costs nothing.
    state = {name: tensor.detach().double().numpy() for name, tensor in classifier.module.state_dict().items()}
    writer = _Writer(precision)
    _write_embedding(writer, classifier, a, state)
    for number in range(a.depth):
        _write_block(writer, state, f"blocks.{number}.", a.width, a.heads)
    for name in ("pre_norm", "final_norm", "pool_norm"):
        if f"{name}.weight" in state:
            writer.floats(f"{name}.weight", state[f"{name}.weight"])
            writer.floats(f"{name}.bias", state[f"{name}.bias"])
    for name, source in (("pre_logits", "pre_logits.0"), ("head", "head"), ("distillation_head", "distillation_head")):
        if f"{source}.weight" in state:
            writer.linear(name, state[f"{source}.weight"], state[f"{source}.bias"])
    return writer.tensors


def _write_embedding(writer: _Writer, classifier: Classifier, a: VitArchitecture, state: Arrays) -> None:
    """The patch embedding on pixels 0..255: (pixel - mean) / std is folded into it.

    The bias is made with the rounded weights, so that their errors are multiplied with pixel - mean and not with
    the pixel.
    """
    spec = classifier.image_spec
    std = np.repeat(255 * np.asarray(spec.std, np.float64), a.patch**2)
    mean = np.repeat(255 * np.asarray(spec.mean, np.float64), a.patch**2)
    weight = state["embed.weight"].reshape(a.width, -1) / std
    bias = state.get("embed.bias", np.zeros(a.width))
    if writer.int8:
        steps, scale = rounded_for_pixels(weight, a.patch)
        writer.int8_linear("embed", steps, scale, bias - (steps * scale.astype(np.float64)[:, None]) @ mean)
    else:
        writer.linear("embed", weight, bias - weight @ mean)
    writer.floats("prefix", state["prefix"][0])
    writer.floats("position", state["position"][0])


def _write_block(writer: _Writer, state: Arrays, block: str, width: int, heads: int) -> None:
    """LayerNorm's affine goes into the next linear, LayerScale into the last; queries carry log2(e) / sqrt(width),
    for a softmax to the base 2."""
    factor, offset = state[f"{block}attention_norm.weight"], state[f"{block}attention_norm.bias"]
    weight = state[f"{block}attention.qkv.weight"]
    bias = state.get(f"{block}attention.qkv.bias", np.zeros(3 * width)) + weight @ offset
    query = np.ones(3 * width)
    query[:width] = math.log2(math.e) / math.sqrt(width // heads)
    writer.linear_after_norm(f"{block}qkv", weight * factor * query[:, None], bias * query)
    scale = state.get(f"{block}attention_scale.gamma", np.ones(width))
    weight, bias = state[f"{block}attention.projection.weight"], state[f"{block}attention.projection.bias"]
    writer.linear(f"{block}projection", weight * scale[:, None], bias * scale)
    factor, offset = state[f"{block}mlp_norm.weight"], state[f"{block}mlp_norm.bias"]
    weight = state[f"{block}mlp.up.weight"]
    writer.linear_after_norm(f"{block}up", weight * factor, state[f"{block}mlp.up.bias"] + weight @ offset)
    scale = state.get(f"{block}mlp_scale.gamma", np.ones(width))
    weight, bias = state[f"{block}mlp.down.weight"], state[f"{block}mlp.down.bias"]
    writer.linear(f"{block}down", weight * scale[:, None], bias * scale)


def _configuration(classifier: Classifier, a: VitArchitecture, precision: Precision) -> dict[str, object]:
    same = (
        *("image_height", "image_width", "patch", "width", "classes", "prefix_tokens", "pool"),
        *("pre_norm", "final_norm", "pool_norm", "pre_logits", "activation", "norm_eps"),
    )
    # Block by block, because pruning may leave them different.
    block = {"heads": a.heads, "head_width": a.width // a.heads, "mlp_width": a.mlp_width}
    return {
        "format": FORMAT,
        "precision": str(precision),
        **{name: getattr(a, name) for name in same},
        "distilled": a.distillation_token,
        "blocks": [block] * a.depth,
        "mean": list(classifier.image_spec.mean),
        "std": list(classifier.image_spec.std),
        "labels": list(classifier.labels),
    }
