"""State dicts of other libraries, brought to the canonical ViT's names.

Two layouts are known: timm's, which DeiT's and most research code share, and Hugging Face
transformers'. Each is first renamed (``timm_layout``, ``hf_layout``) to the canonical names and
four more, which ``assemble`` then joins into ``prefix`` and ``position``: ``class_token``,
``distillation_token``, ``register_tokens`` (each [1, tokens, width]) and ``positions``
[1, count, width].
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

import torch

from vitlet.errors import ModelUnreadable
from vitlet.models.positions import split_positions
from vitlet.models.vit import VisionTransformer, interpolate_positions
from vitlet.models.weights import fill
from vitlet.records import VitArchitecture

if TYPE_CHECKING:
    from torch import Tensor

#: The tokens that stand before the patches, in their order.
PREFIX = ("class_token", "distillation_token", "register_tokens")

#: Biases that the canonical ViT always has, though a source may do without: there zero is exact.
_ALWAYS_BIASED = ("attention.projection", "mlp.up", "mlp.down")


def rename(
    state: Mapping[str, Tensor],
    names: Mapping[str, str],
    block: re.Pattern[str],
    in_block: Mapping[str, str],
    ignored: Iterable[str],
    origin: str,
) -> dict[str, Tensor]:
    """Rename every tensor, as float32: ``names`` outside the blocks, and ``in_block`` for what
    stands behind ``block`` (whose group 1 is the block's number) without ".weight" or ".bias".

    Raises:
        ModelUnreadable: a tensor has a name that the layout does not know.
    """
    renamed: dict[str, Tensor] = {}
    skip = frozenset(ignored)
    for name, tensor in state.items():
        if name in skip:
            continue
        canonical = names.get(name) or _in_block(name, block, in_block)
        if canonical is None:
            raise ModelUnreadable(f"{origin}: tensor {name} belongs to no ViT that vitlet knows")
        renamed[canonical] = tensor.detach().float()
    return renamed


def assemble(
    renamed: Mapping[str, Tensor], architecture: VitArchitecture, *, origin: str, antialias: bool = True
) -> VisionTransformer:
    """Fill a canonical ViT of this architecture with renamed tensors, interpolating the positions
    when they are for another resolution.

    Raises:
        ModelUnreadable: the tensors do not fit the architecture.
    """
    state = {name: tensor for name, tensor in renamed.items() if name not in (*PREFIX, "positions")}
    state |= _prefix_and_position(renamed, architecture, origin, antialias)
    _add_zero_biases(state, architecture)
    with torch.device("meta"):
        module = VisionTransformer(architecture).eval()
    fill(module, state, origin=origin)
    return module


def layout_of(names: Iterable[str]) -> Literal["timm", "hf"] | None:
    """Which of the two layouts these tensor names are in, if any."""
    known = set(names)
    if "patch_embed.proj.weight" in known:
        return "timm"
    if any(name.endswith("embeddings.patch_embeddings.projection.weight") for name in known):
        return "hf"
    return None


def _in_block(name: str, block: re.Pattern[str], in_block: Mapping[str, str]) -> str | None:
    match = block.fullmatch(name)
    if match is None:
        return None
    number, rest = match.groups()
    whole = in_block.get(rest)
    if whole is not None:
        return f"blocks.{number}.{whole}"
    layer, _, kind = rest.rpartition(".")
    return f"blocks.{number}.{in_block[layer]}.{kind}" if layer in in_block and kind in ("weight", "bias") else None


def _prefix_and_position(
    renamed: Mapping[str, Tensor], architecture: VitArchitecture, origin: str, antialias: bool
) -> dict[str, Tensor]:
    rows, columns = architecture.grid
    width = architecture.width
    parts = [renamed[name] for name in (*PREFIX, "positions") if name in renamed]
    if any(part.dim() != 3 or part.shape[0] != 1 or part.shape[2] != width for part in parts):
        raise ModelUnreadable(f"{origin}: a token or position embedding is not 1 x tokens x {width}")
    tokens = [renamed[name] for name in PREFIX if name in renamed]
    prefix = torch.cat(tokens, dim=1) if tokens else torch.zeros(1, 0, width)
    if "positions" not in renamed:
        return {"prefix": prefix, "position": torch.zeros(1, rows * columns, width)}
    positions = renamed["positions"]
    covered, grid = split_positions(
        positions.shape[1], prefix_tokens=prefix.shape[1], grid=architecture.grid, origin=origin
    )
    prefix = torch.cat([prefix[:, :covered] + positions[:, :covered], prefix[:, covered:]], dim=1)
    position = interpolate_positions(positions[:, covered:], grid, architecture.grid, antialias=antialias)
    return {"prefix": prefix, "position": position}


def _add_zero_biases(state: dict[str, Tensor], architecture: VitArchitecture) -> None:
    # Only where no block has the bias: one that is missing in some blocks is a damaged file.
    for layer in _ALWAYS_BIASED:
        names = [f"blocks.{number}.{layer}" for number in range(architecture.depth)]
        if not any(f"{name}.bias" in state for name in names):
            for name in names:
                if f"{name}.weight" in state:
                    state[f"{name}.bias"] = torch.zeros(state[f"{name}.weight"].shape[0])
