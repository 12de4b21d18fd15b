"""A Hugging Face ``config.json`` as a canonical ViT's architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitlet.errors import InvalidValue, ModelUnreadable, Unsupported
from vitlet.records import Activation, VitArchitecture

#: The transformers classes that are exactly a canonical ViT.
SUPPORTED = (
    "ViTForImageClassification",
    "DeiTForImageClassification",
    "DeiTForImageClassificationWithTeacher",
    "Dinov2ForImageClassification",
    "Dinov2WithRegistersForImageClassification",
)

_ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
}


def classifier_class(config: Mapping[str, Any], *, origin: str) -> str:
    """The transformers class that ``config`` is of.

    Raises:
        Unsupported: it is none that vitlet knows; the message lists those.
    """
    named = config.get("architectures")
    name = str(named[0]) if isinstance(named, list) and named else ""
    if name in SUPPORTED:
        return name
    if not name and "architecture" in config:
        raise Unsupported(f"{origin} is a timm model; write timm:hf-hub:{origin}")
    what = name or f"a model of type {config.get('model_type')!r}"
    raise Unsupported(f"{origin} is {what}; of transformers' classes vitlet reads {', '.join(SUPPORTED)}")


def architecture_from_hf(config: Mapping[str, Any], *, height: int, width: int, origin: str) -> VitArchitecture:
    """The architecture for images of this many pixels.

    Raises:
        Unsupported: another model type, or a switch that the canonical ViT has not (SwiGLU, patches
            that are not square, images that are not RGB).
        ModelUnreadable: the file contradicts itself.
    """
    kind = classifier_class(config, origin=origin)
    dino = kind.startswith("Dinov2")
    activation = config.get("hidden_act", "gelu")
    if activation not in _ACTIVATIONS or config.get("use_swiglu_ffn", False):
        raise Unsupported(f"{origin} has an MLP with {'SwiGLU' if activation in _ACTIVATIONS else activation}")
    if config.get("num_channels", 3) != 3:
        raise Unsupported(f"{origin} takes {config['num_channels']} channels; vitlet feeds RGB images")
    hidden = _number(config, "hidden_size", 768, origin)
    # DINOv2 always has LayerScale, and its config gives the MLP's width as a ratio.
    mlp = int(hidden * config.get("mlp_ratio", 4)) if dino else _number(config, "intermediate_size", 3072, origin)
    try:
        return VitArchitecture(
            image_height=height,
            image_width=width,
            patch=patch_size(config, origin=origin),
            width=hidden,
            depth=_number(config, "num_hidden_layers", 12, origin),
            heads=_number(config, "num_attention_heads", 12, origin),
            mlp_width=mlp,
            classes=class_count(config, origin=origin),
            distillation_token=kind.endswith("WithTeacher"),
            registers=_registers(config, kind, origin),
            pool="token+mean" if dino else "token",
            qkv_bias=bool(config.get("qkv_bias", True)),
            layer_scale=dino,
            activation=_ACTIVATIONS[activation],
            norm_eps=float(config.get("layer_norm_eps", 1e-6 if dino else 1e-12)),
        )
    except (InvalidValue, TypeError, ValueError) as error:
        raise ModelUnreadable(f"the config.json of {origin} makes no ViT: {error}") from error


def class_count(config: Mapping[str, Any], *, origin: str) -> int:
    """How many classes ``config`` names."""
    names = config.get("id2label")
    if isinstance(names, Mapping) and names:
        return len(names)
    return _number(config, "num_labels", 2, origin)


def native_size(config: Mapping[str, Any], *, origin: str) -> tuple[int, int]:
    """(height, width) in pixels that the stored positions are for."""
    return _pair(config, "image_size", 224, origin)


def patch_size(config: Mapping[str, Any], *, origin: str) -> int:
    """The edge of a patch in pixels.

    Raises:
        Unsupported: the patches are not square.
    """
    dino = str(config.get("model_type", "")).startswith("dinov2")
    rows, columns = _pair(config, "patch_size", 14 if dino else 16, origin)
    if rows != columns:
        raise Unsupported(f"{origin} has patches of {rows} x {columns} pixels; vitlet's are square")
    return rows


def _registers(config: Mapping[str, Any], kind: str, origin: str) -> int:
    if kind == "DeiTForImageClassification":
        return 1  # its distillation token takes part, but no head reads it
    return _number(config, "num_register_tokens", 4, origin) if kind.startswith("Dinov2With") else 0


def _number(config: Mapping[str, Any], name: str, default: int, origin: str) -> int:
    value = config.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ModelUnreadable(f"the config.json of {origin} says {name} is {value!r}; it must be a whole number")
    return value


def _pair(config: Mapping[str, Any], name: str, default: int, origin: str) -> tuple[int, int]:
    value = config.get(name, default)
    pair = tuple(value) if isinstance(value, list) else (value, value)
    if len(pair) != 2 or not all(isinstance(edge, int) and not isinstance(edge, bool) and edge > 0 for edge in pair):
        raise ModelUnreadable(f"the config.json of {origin} says {name} is {value!r}; it must be a number of pixels")
    return pair[0], pair[1]
