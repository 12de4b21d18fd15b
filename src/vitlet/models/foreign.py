"""Checkpoint files of other programs: a ViT's architecture told from the shapes of its weights.

What shapes cannot tell is assumed, and can be said in the reference in query form, as in
``vit.pth?heads=3&image_size=384&mean=0.5,0.5,0.5``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vitlet.errors import InvalidValue, ModelUnreadable
from vitlet.models.labels import class_labels
from vitlet.models.layout import assemble, layout_of
from vitlet.models.pickle_file import read_state_dict
from vitlet.models.positions import split_positions
from vitlet.models.safetensors_file import read_header, read_tensors
from vitlet.records import Activation, Classifier, ImageSpec, Interpolation, Pool, VitArchitecture

if TYPE_CHECKING:
    from torch import Tensor

#: The width of a head in every published ViT but the tiniest; shapes do not show it.
HEAD_WIDTH = 64


@dataclass(frozen=True)
class ForeignOptions:
    """What the shapes of a checkpoint do not show; pixels, and mean and std on the 0..1 scale.

    ``resize`` is the shorter edge before the crop, ``weights`` the key of the entry to read in a
    training script's file.
    """

    heads: int | None = None
    image_size: int | None = None
    pool: Pool | None = None
    activation: Activation = "gelu"
    norm_eps: float | None = None
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    resize: int | None = None
    interpolation: Interpolation = "bicubic"
    weights: str | None = None


def read_options(query: Mapping[str, str]) -> ForeignOptions:
    """Read the options of a reference.

    Raises:
        InvalidValue: an option is unknown or its value is none; the message lists those there are.
    """
    known = [field.name for field in fields(ForeignOptions)]
    unknown = sorted(set(query) - set(known))
    if unknown:
        raise InvalidValue(f"a checkpoint has no option {unknown[0]!r}; there are: {', '.join(known)}")
    values = {name: text.split(",") if name in ("mean", "std") else text for name, text in query.items()}
    try:
        return msgspec.convert(values, ForeignOptions, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidValue(f"checkpoint option: {error}") from error


def load_foreign(path: Path, options: ForeignOptions, *, reference: str) -> Classifier:
    """Load a ViT's state dict in timm's, DeiT's or Hugging Face's layout.

    Raises:
        ModelNotFound: there is no such file.
        ModelUnreadable: it is damaged, holds code, or is no ViT that vitlet knows.
        InvalidValue: an option does not go with the weights, or one is needed.
    """
    state = _read(path, options)
    layout = layout_of(state)
    origin = str(path)
    if layout == "timm":
        from vitlet.models.timm_layout import from_timm_layout

        renamed = from_timm_layout(state, origin=origin)
    elif layout == "hf":
        from vitlet.models.hf_layout import from_hf_layout

        renamed = from_hf_layout(state, origin=origin)
    else:
        shown = ", ".join(list(state)[:3])
        raise ModelUnreadable(f"{path} is no ViT in timm's, DeiT's or Hugging Face's layout; it holds {shown}, ...")
    architecture = infer(renamed, options, hugging_face=layout == "hf", origin=origin)
    return Classifier(
        module=assemble(renamed, architecture, origin=origin),
        architecture=architecture,
        image_spec=_image_spec(architecture, options),
        labels=class_labels(architecture.classes),
        reference=reference,
        library="checkpoint",
        note="the architecture was told from the shapes of the weights",
    )


def infer(
    renamed: Mapping[str, Tensor], options: ForeignOptions, *, hugging_face: bool, origin: str
) -> VitArchitecture:
    """The architecture of renamed weights (``vitlet.models.layout``).

    Raises:
        ModelUnreadable: they make no ViT classifier.
        InvalidValue: an option is needed; the message says which.
    """
    patch_width, patch = _embed(renamed, origin)
    heads = _heads(patch_width, options, origin)
    height, width = _image_size(renamed, patch, options, origin)
    head = _shape(renamed, "head.weight", 2, origin, "has no classifier head")
    pool = options.pool or _pool(renamed, features=head[1], width=patch_width)
    depth = 1 + max((int(name.split(".")[1]) for name in renamed if name.startswith("blocks.")), default=-1)
    if depth == 0:
        raise ModelUnreadable(f"{origin} has no transformer blocks")
    eps = options.norm_eps or (1e-12 if hugging_face and "blocks.0.attention_scale.gamma" not in renamed else 1e-6)
    try:
        return VitArchitecture(
            image_height=height,
            image_width=width,
            patch=patch,
            width=patch_width,
            depth=depth,
            heads=heads,
            mlp_width=_shape(renamed, "blocks.0.mlp.up.weight", 2, origin, "has an MLP that is not two linears")[0],
            classes=head[0],
            class_token="class_token" in renamed,
            distillation_token="distillation_token" in renamed,
            registers=_shape(renamed, "register_tokens", 3, origin, "")[1] if "register_tokens" in renamed else 0,
            pool=pool,
            qkv_bias="blocks.0.attention.qkv.bias" in renamed,
            layer_scale="blocks.0.attention_scale.gamma" in renamed,
            pre_norm="pre_norm.weight" in renamed,
            final_norm="final_norm.weight" in renamed,
            pool_norm="pool_norm.weight" in renamed,
            pre_logits=renamed["pre_logits.0.weight"].shape[0] if "pre_logits.0.weight" in renamed else 0,
            activation=options.activation,
            norm_eps=eps,
            patch_bias="embed.bias" in renamed,
        )
    except InvalidValue as error:
        raise ModelUnreadable(f"{origin} makes no ViT: {error}") from error


def _read(path: Path, options: ForeignOptions) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        return read_state_dict(path, key=options.weights)
    return read_tensors(path, read_header(path).shapes)


def _embed(renamed: Mapping[str, Tensor], origin: str) -> tuple[int, int]:
    shape = _shape(renamed, "embed.weight", 4, origin, "has no patch embedding")
    if shape[1] != 3 or shape[2] != shape[3]:
        raise ModelUnreadable(f"{origin} embeds patches of {shape[2]} x {shape[3]} pixels with {shape[1]} channels")
    return shape[0], shape[2]


def _heads(width: int, options: ForeignOptions, origin: str) -> int:
    if options.heads is None and width % HEAD_WIDTH:
        raise InvalidValue(f"{origin} is {width} wide, so its number of heads is not plain; add ?heads=N to its name")
    heads = width // HEAD_WIDTH if options.heads is None else options.heads
    if heads < 1 or width % heads:
        raise InvalidValue(f"{origin} is {width} wide, which {heads} heads cannot share equally")
    return heads


def _image_size(renamed: Mapping[str, Tensor], patch: int, options: ForeignOptions, origin: str) -> tuple[int, int]:
    if options.image_size is not None:
        return options.image_size, options.image_size
    if "positions" not in renamed:
        raise InvalidValue(f"{origin} has no positions that show its image size; add ?image_size=N to its name")
    positions = _shape(renamed, "positions", 3, origin, "")
    tokens = ("class_token", "distillation_token", "register_tokens")
    prefix = sum(_shape(renamed, name, 3, origin, "")[1] for name in tokens if name in renamed)
    _, (rows, columns) = split_positions(positions[1], prefix_tokens=prefix, grid=None, origin=origin)
    return rows * patch, columns * patch


def _pool(renamed: Mapping[str, Any], *, features: int, width: int) -> Pool:
    if "pre_logits.0.weight" in renamed:
        features = renamed["pre_logits.0.weight"].shape[-1]
    if features == 2 * width:
        return "token+mean"
    # A norm after pooling comes with the mean (MAE, timm's ``avg``); without one the token is read.
    return "mean" if "pool_norm.weight" in renamed or "class_token" not in renamed else "token"


def _shape(renamed: Mapping[str, Tensor], name: str, dimensions: int, origin: str, otherwise: str) -> tuple[int, ...]:
    found = renamed.get(name)
    if found is None:
        raise ModelUnreadable(f"{origin} {otherwise}: it lacks {name}")
    if found.dim() != dimensions:
        raise ModelUnreadable(f"{origin}: tensor {name} has {found.dim()} dimensions, not {dimensions}")
    return tuple(found.shape)


def _image_spec(architecture: VitArchitecture, options: ForeignOptions) -> ImageSpec:
    # DeiT's evaluation: the crop is 7/8 of the resized image.
    resize = options.resize or int(architecture.image_height / 0.875)
    return ImageSpec(
        height=architecture.image_height,
        width=architecture.image_width,
        resize=resize,
        interpolation=options.interpolation,
        mean=options.mean,
        std=options.std,
    )
