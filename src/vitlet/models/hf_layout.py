"""The state dict layouts of Hugging Face transformers' ViT, DeiT and DINOv2 classifiers: the one
that checkpoints have always been saved in, and the module names of transformers 5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from vitlet.errors import ModelUnreadable
from vitlet.models.layout import rename

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = re.compile(r"(?:encoder\.layer|layers)\.(\d+)\.(.+)")

_IN_BLOCK = {
    "layernorm_before": "attention_norm",
    "norm1": "attention_norm",
    **{f"attention.attention.{part}": f"attention.{part}" for part in ("query", "key", "value")},
    "attention.q_proj": "attention.query",
    "attention.k_proj": "attention.key",
    "attention.v_proj": "attention.value",
    "attention.output.dense": "attention.projection",
    "attention.o_proj": "attention.projection",
    "layer_scale1.lambda1": "attention_scale.gamma",
    "layernorm_after": "mlp_norm",
    "norm2": "mlp_norm",
    "intermediate.dense": "mlp.up",
    "mlp.fc1": "mlp.up",
    "output.dense": "mlp.down",
    "mlp.fc2": "mlp.down",
    "layer_scale2.lambda1": "mlp_scale.gamma",
}

_MODULES = {
    "embeddings.patch_embeddings.projection": "embed",
    "layernorm": "final_norm",
    "classifier": "head",
    "cls_classifier": "head",
    "distillation_classifier": "distillation_head",
}

_NAMES = {
    "embeddings.cls_token": "class_token",
    "embeddings.distillation_token": "distillation_token",
    "embeddings.register_tokens": "register_tokens",
    "embeddings.position_embeddings": "positions",
    **{f"{source}.{kind}": f"{own}.{kind}" for source, own in _MODULES.items() for kind in ("weight", "bias")},
}

#: The mask token serves pretraining, the pooler stands beside the classification path.
_IGNORED = ("embeddings.mask_token", "pooler.dense.weight", "pooler.dense.bias")


def from_hf_layout(state: Mapping[str, Tensor], *, origin: str) -> dict[str, Tensor]:
    """Rename a Hugging Face state dict for ``vitlet.models.layout.assemble``; query, key and value
    become one linear.

    ``DeiTForImageClassification`` has a distillation token without a head that reads it: here it
    is a register.

    Raises:
        ModelUnreadable: it holds a tensor that the canonical ViT has no place for.
    """
    short = {re.sub(r"^(vit|deit|dinov2|dinov2_with_registers)\.", "", name): tensor for name, tensor in state.items()}
    renamed = rename(short, _NAMES, _BLOCK, _IN_BLOCK, _IGNORED, origin)
    if "distillation_token" in renamed and "distillation_head.weight" not in renamed:
        renamed["register_tokens"] = renamed.pop("distillation_token")
    return _fuse(renamed, origin)


def _fuse(renamed: dict[str, Tensor], origin: str) -> dict[str, Tensor]:
    fused = {}
    for name, tensor in renamed.items():
        layer, _, kind = name.rpartition(".")
        stem, _, part = layer.rpartition(".")
        if part not in ("query", "key", "value"):
            fused[name] = tensor
        elif part == "query":
            three = [f"{stem}.{each}.{kind}" for each in ("query", "key", "value")]
            unlike = [each for each in three if each not in renamed or renamed[each].shape != tensor.shape]
            if unlike:
                raise ModelUnreadable(f"{origin} lacks the tensor for {unlike[0]}, or its shape is wrong")
            fused[f"{stem}.qkv.{kind}"] = torch.cat([renamed[each] for each in three])
    return fused
