"""The state dict layout of timm's ``VisionTransformer`` and of the original DeiT code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vitlet.models.layout import rename

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")

_IN_BLOCK = {
    "norm1": "attention_norm",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.projection",
    "ls1.gamma": "attention_scale.gamma",
    "gamma_1": "attention_scale.gamma",  # the DeiT III code
    "norm2": "mlp_norm",
    "mlp.fc1": "mlp.up",
    "mlp.fc2": "mlp.down",
    "ls2.gamma": "mlp_scale.gamma",
    "gamma_2": "mlp_scale.gamma",
}

_MODULES = {
    "patch_embed.proj": "embed",
    "norm_pre": "pre_norm",
    "norm": "final_norm",
    "fc_norm": "pool_norm",
    "pre_logits.fc": "pre_logits.0",
    "head": "head",
    "head_dist": "distillation_head",
}

_NAMES = {
    "cls_token": "class_token",
    "dist_token": "distillation_token",
    "reg_token": "register_tokens",
    "pos_embed": "positions",
    **{f"{source}.{kind}": f"{own}.{kind}" for source, own in _MODULES.items() for kind in ("weight", "bias")},
}


def from_timm_layout(state: Mapping[str, Tensor], *, origin: str) -> dict[str, Tensor]:
    """Rename a timm or DeiT state dict for ``vitlet.models.layout.assemble``.

    Raises:
        ModelUnreadable: it holds a tensor that the canonical ViT has no place for.
    """
    return rename(state, _NAMES, _BLOCK, _IN_BLOCK, ("mask_token",), origin)
