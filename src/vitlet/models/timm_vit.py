"""Which timm modules are exactly the canonical ViT, told by looking at the module itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import timm.layers
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from vitlet.errors import ModelUnreadable
from vitlet.models import vit
from vitlet.models.layout import assemble
from vitlet.models.timm_layout import from_timm_layout
from vitlet.records import Activation, Pool, VitArchitecture

_layers: Any = timm.layers  # it exports its classes without saying so

#: Logits of two float32 implementations differ by the order of their sums: 1e-4 of the largest
#: logit is some ten times what ViT-L shows, and a forgotten part of the model shows far more.
TOLERANCE = 1e-4


class NotCanonical(Exception):
    """The module does something that the canonical ViT cannot; ``str()`` says what."""


def canonical_vit(model: nn.Module) -> tuple[VitArchitecture, vit.VisionTransformer]:
    """Convert a timm ViT in eval mode to the canonical one, and check on one random image that
    both give the same logits. The two share the memory of their weights.

    Raises:
        NotCanonical: it is no such ViT, or the logits differ by more than ``TOLERANCE`` of the
            largest logit.
    """
    architecture = describe(model)
    try:
        converted = assemble(from_timm_layout(model.state_dict(), origin="the timm model"), architecture, origin="timm")
    except ModelUnreadable as error:
        raise NotCanonical(str(error)) from error
    difference, scale = _difference(model, converted, architecture)
    if not difference <= TOLERANCE * max(1.0, scale):
        raise NotCanonical(f"the converted model's logits differ by {difference:.2g} of {scale:.2g}")
    return architecture, converted


def describe(model: nn.Module) -> VitArchitecture:
    """The architecture of a timm ViT.

    Raises:
        NotCanonical: it is no timm ViT, or has a part that the canonical ViT has not.
    """
    distilled = type(model) is VisionTransformerDistilled
    if type(model) is not VisionTransformer and not distilled:
        raise NotCanonical(f"{type(model).__name__} is no plain ViT")
    source: Any = model  # timm's attributes are untyped
    _check_whole(source, distilled)
    _check_patches(source.patch_embed)
    blocks = list(source.blocks)
    for block in blocks:
        _check_block(block)
    height, width = source.patch_embed.img_size
    return VitArchitecture(
        image_height=height,
        image_width=width,
        patch=source.patch_embed.patch_size[0],
        width=source.embed_dim,
        depth=len(blocks),
        heads=_same(block.attn.num_heads for block in blocks),
        mlp_width=_same(block.mlp.fc1.out_features for block in blocks),
        classes=source.num_classes,
        class_token=source.cls_token is not None,
        distillation_token=distilled,
        registers=0 if source.reg_token is None else source.reg_token.shape[1],
        pool=_pool(source.global_pool),
        qkv_bias=_same(block.attn.qkv.bias is not None for block in blocks),
        layer_scale=_same(isinstance(block.ls1, _layers.LayerScale) for block in blocks),
        pre_norm=not isinstance(source.norm_pre, nn.Identity),
        final_norm=not isinstance(source.norm, nn.Identity),
        pool_norm=not isinstance(source.fc_norm, nn.Identity),
        activation=_same(_activation(block.mlp.act) for block in blocks),
        norm_eps=_norm_eps(source),
        patch_bias=source.patch_embed.proj.bias is not None,
    )


def _check_whole(source: Any, distilled: bool) -> None:
    refused: Mapping[str, bool] = {
        "no blocks": len(source.blocks) == 0,
        "no linear classifier head": type(source.head) is not nn.Linear or source.head.bias is None,
        "attention pooling": source.attn_pool is not None,
        "images of any size": source.dynamic_img_size,
        "pooling over the prefix tokens": getattr(source, "pool_include_prefix", False),
        "a register token beside the distillation token": distilled and source.reg_token is not None,
        "a norm after pooling beside two heads": distilled and not isinstance(source.fc_norm, nn.Identity),
    }
    for what, found in refused.items():
        if found:
            raise NotCanonical(what)


def _check_patches(patches: Any) -> None:
    plain = type(patches) is _layers.PatchEmbed and type(patches.norm) is nn.Identity and patches.flatten
    if not plain or patches.dynamic_img_pad or patches.img_size is None:
        raise NotCanonical(f"patch embedding {type(patches).__name__} with more than one convolution")
    if patches.patch_size[0] != patches.patch_size[1] or patches.proj.in_channels != 3:
        raise NotCanonical(f"patches of {patches.patch_size} pixels with {patches.proj.in_channels} channels")


def _check_block(block: Any) -> None:
    if type(block) is not Block:
        raise NotCanonical(f"block {type(block).__name__}")
    attention: Any = block.attn
    mlp: Any = block.mlp
    if type(attention) is not _layers.Attention:
        raise NotCanonical(f"attention {type(attention).__name__}")
    if type(mlp) is not _layers.Mlp:
        raise NotCanonical(f"MLP {type(mlp).__name__}")
    more = {
        "norms of query and key": (attention.q_norm, attention.k_norm),
        "a norm in attention": (getattr(attention, "norm", None),),
        "a gate in attention": (getattr(attention, "gate", None),),
        "a norm in the MLP": (getattr(mlp, "norm", None),),
    }
    for what, parts in more.items():
        if any(part is not None and type(part) is not nn.Identity for part in parts):
            raise NotCanonical(what)
    qkv: Any = attention.qkv
    width: int = qkv.in_features
    if qkv.out_features != 3 * width or attention.proj.out_features != width:
        raise NotCanonical("heads whose widths do not add up to the tokens' width")
    if type(mlp.fc1) is not nn.Linear:
        raise NotCanonical("an MLP of convolutions")
    scales = (type(block.ls1), type(block.ls2))
    if scales not in ((_layers.LayerScale,) * 2, (nn.Identity,) * 2):
        raise NotCanonical(f"LayerScale {scales}")


def _pool(global_pool: str) -> Pool:
    pools: Mapping[str, Pool] = {"token": "token", "avg": "mean"}
    if global_pool not in pools:
        raise NotCanonical(f"pooling {global_pool!r}")
    return pools[global_pool]


def _activation(module: nn.Module) -> Activation:
    if type(module) is nn.GELU:
        return "gelu_tanh" if module.approximate == "tanh" else "gelu"
    names: Mapping[str, Activation] = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu"}
    name = type(module).__name__
    if name not in names or not type(module).__module__.startswith("timm.layers"):
        raise NotCanonical(f"activation {name}")
    return names[name]


def _norm_eps(source: Any) -> float:
    every: list[nn.Module] = [source.norm_pre, source.norm, source.fc_norm]
    for block in source.blocks:
        every += [block.norm1, block.norm2]
    present = [norm for norm in every if type(norm) is not nn.Identity]
    for norm in present:
        if not isinstance(norm, nn.LayerNorm) or norm.weight is None or norm.bias is None:
            raise NotCanonical(f"norm {type(norm).__name__}")
    return _same(norm.eps for norm in present if isinstance(norm, nn.LayerNorm))


def _same(values: Iterator[Any]) -> Any:
    found = set(values)
    if len(found) != 1:
        raise NotCanonical(f"blocks that differ from each other: {sorted(found)}")
    return found.pop()


def _difference(source: nn.Module, converted: nn.Module, architecture: VitArchitecture) -> tuple[float, float]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, architecture.image_height, architecture.image_width, generator=generator)
    with torch.inference_mode():
        theirs = source(image)
        ours = converted(image)
    return float((theirs - ours).abs().max()), float(theirs.abs().max())
