"""Read an ``ImageSpec`` from what the source library stores beside its weights: timm's
``pretrained_cfg`` and Hugging Face's ``preprocessor_config.json``. Neither library is imported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args

from vitlet.errors import InvalidValue, Unsupported
from vitlet.records import ImageSpec, Interpolation

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

#: PIL's numbers for its filters, which is how a processor file names them.
_PIL_FILTERS: tuple[Interpolation, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")


def spec_from_timm(pretrained_cfg: Mapping[str, Any]) -> ImageSpec:
    """The spec of timm's evaluation transform: ``create_transform(**resolve_data_config(cfg))``.

    Fields that are missing or None get timm's defaults (224 pixels, crop_pct 0.875, bicubic,
    ``center``, ImageNet's mean and std).

    Raises:
        Unsupported: crop mode ``border`` (or an unknown one), a rectangular input that is not
            squashed, or other than 3 channels.
        InvalidValue: a field is no such value at all.
    """
    channels, height, width = _integers("input_size", pretrained_cfg.get("input_size") or (3, 224, 224), 3)
    if channels != 3:
        raise Unsupported(f"the model takes {channels} channels; vitlet feeds it 3 (RGB)")
    crop = _number("crop_pct", pretrained_cfg.get("crop_pct") or 0.875)
    if crop <= 0:
        raise InvalidValue(f"crop_pct is {crop}; it must be above 0")
    scaled = (math.floor(height / crop), math.floor(width / crop))
    mode = pretrained_cfg.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        raise Unsupported(f"timm's crop mode {mode!r} is not supported; only 'center' and 'squash' are")
    if mode == "center" and scaled[0] != scaled[1]:
        raise Unsupported(
            f"timm's crop mode 'center' is supported for square inputs only, not for {height} x {width}; "
            "use crop mode 'squash'"
        )
    return ImageSpec(
        height=height,
        width=width,
        resize=scaled if mode == "squash" else scaled[0],
        interpolation=_interpolation(pretrained_cfg.get("interpolation") or "bicubic"),
        mean=_per_channel("mean", pretrained_cfg.get("mean") or _IMAGENET_MEAN),
        std=_per_channel("std", pretrained_cfg.get("std") or _IMAGENET_STD),
    )


@dataclass(frozen=True)
class _Processor:
    """What a transformers processor class does where its file is silent; sizes in pixels."""

    resample: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: int
    square: bool = True
    crop: int = 0


_PROCESSORS = MappingProxyType(
    {
        "ViT": _Processor(2, _HALF, _HALF, 224),
        "DeiT": _Processor(3, _HALF, _HALF, 256, crop=224),
        "Bit": _Processor(3, _CLIP_MEAN, _CLIP_STD, 224, square=False, crop=224),
        "ConvNext": _Processor(3, _HALF, _HALF, 384, square=False),
    }
)
_PROCESSOR_OF_MODEL = MappingProxyType(
    {"vit": "ViT", "deit": "DeiT", "dinov2": "Bit", "dinov2_with_registers": "Bit", "convnext": "ConvNext"}
)


def spec_from_hf(
    processor: Mapping[str, Any], *, default_size: int | tuple[int, int], model_type: str = ""
) -> ImageSpec:
    """The spec of a transformers image processor, from the JSON of its file.

    Known are the processors of ViT (also Swin and others that use it), DeiT, Bit (DINOv2) and
    ConvNext, under their old (``...FeatureExtractor``) and new names. A file without a type, as the
    first ViT checkpoints have, is read as the processor of ``model_type`` (``config.json``), or as
    ViT's. ``default_size`` is the model's own input, (height, width) or one number for both: it
    stands in where the file gives no size, or says not to resize (then the library takes only
    images that have this size already). ``do_rescale``, ``rescale_factor`` and ``do_normalize`` are
    folded into mean and std.

    Raises:
        Unsupported: another processor, or a setting whose result has no fixed size.
        InvalidValue: a field is no such value at all.
    """
    settings = processor.get("image_processor", processor)  # a processor_config.json nests it
    if not isinstance(settings, Mapping):
        raise InvalidValue(f"the image processor settings are {settings!r}; they must be an object")
    kind = _processor_kind(settings, model_type)
    known = _PROCESSORS[kind]
    size = (default_size, default_size) if isinstance(default_size, int) else default_size
    resize, crop = (_convnext_sizes if kind == "ConvNext" else _sizes)(settings, known, size)
    mean, std = _scale(settings, known)
    return ImageSpec(
        height=crop[0],
        width=crop[1],
        resize=resize,
        interpolation=_interpolation(_given(settings, "resample", known.resample)),
        mean=mean,
        std=std,
        crop_rounding="down",
    )


def _processor_kind(settings: Mapping[str, Any], model_type: str) -> str:
    name = settings.get("image_processor_type") or settings.get("feature_extractor_type")
    if name is None:
        kind = _PROCESSOR_OF_MODEL.get(model_type, "" if model_type else "ViT")
        if not kind:
            raise Unsupported(f"the processor file names no type, and that of model type {model_type!r} is not known")
        return kind
    for kind in _PROCESSORS:
        endings = ("ImageProcessor", "ImageProcessorFast", "ImageProcessorPil", "FeatureExtractor")
        if name in [kind + ending for ending in endings]:
            return kind
    raise Unsupported(
        f"image processor {name!r} is not supported; known are: "
        + ", ".join(f"{kind}ImageProcessor" for kind in _PROCESSORS)
    )


def _sizes(
    settings: Mapping[str, Any], known: _Processor, default: tuple[int, int]
) -> tuple[int | tuple[int, int], tuple[int, int]]:
    """(resize, crop) as ImageSpec has them, crop as (height, width)."""
    cropped = bool(_given(settings, "do_center_crop", known.crop > 0))
    crop = default
    if cropped and "crop_size" in settings:
        given = _size("crop_size", settings["crop_size"], square=True)
        if isinstance(given, int):
            raise Unsupported("crop_size with a shortest edge gives images of no fixed size")
        crop = given
    if not _given(settings, "do_resize", True):
        if cropped:
            raise Unsupported("a processor that crops without resizing is not supported")
        return crop, crop
    if settings.get("size") is not None:
        resize = _size("size", settings["size"], square=known.square)
    elif not cropped:
        resize = default
    elif crop == (known.crop, known.crop):
        resize = (known.resize, known.resize) if known.square else known.resize
    else:
        raise Unsupported(f"the processor file gives no size to resize to before the crop of {crop[0]} x {crop[1]}")
    if cropped:
        return resize, crop
    if isinstance(resize, int):
        raise Unsupported("resizing the shortest edge without a centre crop gives images of no fixed size")
    return resize, resize


def _convnext_sizes(
    settings: Mapping[str, Any], known: _Processor, default: tuple[int, int]
) -> tuple[int | tuple[int, int], tuple[int, int]]:
    """ConvNext below 384 pixels: shorter edge to size / crop_pct, then crop; from 384 on: squash."""
    if not _given(settings, "do_resize", True) or _given(settings, "do_center_crop", False):
        raise Unsupported("a ConvNext processor with do_resize off or do_center_crop on is not supported")
    size = default[0] if settings.get("size") is None else _size("size", settings["size"], square=False)
    if not isinstance(size, int):
        raise Unsupported("a ConvNext processor needs a size with a shortest edge")
    if size >= 384:
        return (size, size), (size, size)
    crop = _number("crop_pct", _given(settings, "crop_pct", 224 / 256))
    if crop <= 0:
        raise InvalidValue(f"crop_pct is {crop}; it must be above 0")
    return int(size / crop), (size, size)


def _scale(
    settings: Mapping[str, Any], known: _Processor
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Fold ``(x * factor - mean) / std``, either half of which may be off, into (mean, std) for x / 255."""
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if _given(settings, "do_normalize", True):
        mean = _per_channel("image_mean", _given(settings, "image_mean", known.mean))
        std = _per_channel("image_std", _given(settings, "image_std", known.std))
    factor = 1.0
    if _given(settings, "do_rescale", True):
        factor = _number("rescale_factor", _given(settings, "rescale_factor", 1 / 255))
    if factor <= 0:
        raise InvalidValue(f"rescale_factor is {factor}; it must be above 0")
    if math.isclose(factor, 1 / 255, rel_tol=1e-6):
        return mean, std  # exactly as given, so that the result is equal to the last bit
    unit = 255 * factor
    return (mean[0] / unit, mean[1] / unit, mean[2] / unit), (std[0] / unit, std[1] / unit, std[2] / unit)


def _given(settings: Mapping[str, Any], name: str, default: Any) -> Any:
    value = settings.get(name)
    return default if value is None else value


def _size(name: str, value: Any, *, square: bool) -> int | tuple[int, int]:
    """A processor's size: an int is the shorter edge, a pair is (height, width)."""
    if isinstance(value, Mapping):
        keys = {key for key, number in value.items() if number is not None}
        if keys == {"height", "width"}:
            value = (value["height"], value["width"])
        elif keys == {"shortest_edge"}:
            return _integers(name, (value["shortest_edge"],), 1)[0]
        else:
            raise Unsupported(f"{name} {dict(value)} is not supported; known are height and width, or shortest_edge")
    elif isinstance(value, int):
        if not square:
            return _integers(name, (value,), 1)[0]
        value = (value, value)
    height, width = _integers(name, value, 2)
    return height, width


def _integers(name: str, values: Any, count: int) -> tuple[int, ...]:
    fits = isinstance(values, list | tuple) and len(values) == count
    if not fits or not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        raise InvalidValue(f"{name} is {values!r}; it must be {count} whole number{'s' * (count > 1)}")
    return tuple(values)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidValue(f"{name} is {value!r}; it must be a number")
    return float(value)


def _per_channel(name: str, values: Any) -> tuple[float, float, float]:
    if isinstance(values, int | float):
        values = (values,) * 3
    if not isinstance(values, list | tuple) or len(values) != 3:
        raise InvalidValue(f"{name} is {values!r}; it must be 3 numbers, one per RGB channel")
    red, green, blue = (_number(name, value) for value in values)
    return red, green, blue


def _interpolation(value: Any) -> Interpolation:
    """By name (timm) or by PIL's number (transformers)."""
    for number, name in enumerate(_PIL_FILTERS):
        if value == name or (value == number and not isinstance(value, bool)):
            return name
    raise Unsupported(f"interpolation {value!r} is not supported; known are: {', '.join(get_args(Interpolation))}")
