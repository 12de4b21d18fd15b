"""Every switch of the canonical ViT, held to timm's own logits on lively seeded weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn

from vitlet.models.timm_vit import NotCanonical, canonical_vit, describe

#: Absolute; both are float32 and sum in other orders. Lively logits are near 1.
TOLERANCE = 1e-4

SMALL: dict[str, Any] = {"depth": 2, "img_size": 64}

#: Name of the case -> (timm name, its options, switches that must come out).
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ViT-Ti/16": ("vit_tiny_patch16_224", {}, {"heads": 3, "pool": "token"}),
    "DeiT-Ti": ("deit_tiny_patch16_224", {}, {"distillation_token": False}),
    "DeiT-Ti distilled": ("deit_tiny_distilled_patch16_224", {}, {"distillation_token": True}),
    "ViT-Ti/16 at 384": ("vit_tiny_patch16_384", {"depth": 2}, {"image_height": 384}),
    "DeiT III": ("deit3_small_patch16_224", {"depth": 2}, {"layer_scale": True}),
    "patch 8": ("vit_small_patch8_224", {**SMALL, "num_classes": 5}, {"patch": 8}),
    "patch 32, B": ("vit_base_patch32_224", {"depth": 2}, {"patch": 32, "width": 768}),
    "patch 14, registers": (
        "vit_small_patch14_reg4_dinov2",
        {"depth": 2, "img_size": 70, "num_classes": 7},
        {"patch": 14, "registers": 4, "layer_scale": True},
    ),
    "L": ("vit_large_patch16_224", {"depth": 1, "img_size": 48}, {"width": 1024, "heads": 16}),
    "mean, registers, norm after": (
        "vit_wee_patch16_reg1_gap_256",
        {"depth": 2},
        {"pool": "mean", "class_token": False, "registers": 1, "pool_norm": True, "final_norm": False},
    ),
    "mean, norm before": (
        "vit_so150m_patch16_reg4_gap_256",
        {"depth": 2, "img_size": 64},
        {"pool": "mean", "final_norm": True, "pool_norm": False},
    ),
    "mean with class token": (
        "vit_tiny_patch16_224",
        {**SMALL, "global_pool": "avg"},
        {"pool": "mean", "class_token": True, "pool_norm": True},
    ),
    "CLIP: norm before, no patch bias": (
        "vit_base_patch32_clip_224",
        {"depth": 2},
        {"pre_norm": True, "patch_bias": False, "norm_eps": 1e-5},
    ),
    "quick GELU": ("vit_base_patch32_clip_quickgelu_224", {"depth": 2}, {"activation": "quick_gelu"}),
    "tanh GELU": ("vit_tiny_patch16_224", {**SMALL, "act_layer": "gelu_tanh"}, {"activation": "gelu_tanh"}),
    "no qkv bias": ("vit_tiny_patch16_224", {**SMALL, "qkv_bias": False}, {"qkv_bias": False}),
    "no biases in the blocks": ("vit_tiny_patch16_224", {**SMALL, "proj_bias": False}, {}),
    "no positions": ("vit_tiny_patch16_224", {**SMALL, "pos_embed": "none"}, {}),
    "no positions for the class": ("vit_tiny_patch16_224", {**SMALL, "no_embed_class": True}, {}),
    "norm after the token": (
        "vit_tiny_patch16_224",
        {**SMALL, "fc_norm": True},
        {"pool": "token", "pool_norm": True, "final_norm": False},
    ),
    "no final norm": ("vit_tiny_patch16_224", {**SMALL, "final_norm": False}, {"final_norm": False}),
    "rectangle": ("vit_tiny_patch16_224", {"depth": 2, "img_size": (64, 96)}, {"image_width": 96}),
    "LayerScale": ("vit_tiny_patch16_224", {**SMALL, "init_values": 0.1}, {"layer_scale": True}),
}


def _difference(one: nn.Module, other: nn.Module, height: int, width: int) -> float:
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return float((one(images) - other(images)).abs().max())


@pytest.mark.parametrize("case", CASES)
def test_logits_are_timms(case: str, lively: Callable[..., nn.Module]) -> None:
    name, options, switches = CASES[case]
    theirs = lively(timm.create_model(name, **options))
    architecture, ours = canonical_vit(theirs)
    assert {key: getattr(architecture, key) for key in switches} == switches
    assert _difference(theirs, ours, architecture.image_height, architecture.image_width) <= TOLERANCE


@pytest.mark.parametrize(
    "case",
    ["DeiT-Ti distilled", "mean, registers, norm after", "CLIP: norm before, no patch bias", "quick GELU", "DeiT III"],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*:torch.jit.TracerWarning")
def test_script_trace_and_export_give_the_same_logits(case: str, lively: Callable[..., nn.Module]) -> None:
    name, options, _ = CASES[case]
    theirs = lively(timm.create_model(name, **{**options, "depth": 2}))
    architecture, ours = canonical_vit(theirs)
    height, width = architecture.image_height, architecture.image_width
    example = torch.randn(1, 3, height, width)
    with torch.no_grad():
        forms = {
            "script": torch.jit.script(ours),
            "trace": torch.jit.trace(ours, example),
            "export": torch.export.export(ours, (torch.randn(2, 3, height, width),)).module(),
        }
    for form, module in forms.items():
        assert _difference(theirs, module, height, width) <= TOLERANCE, form


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("test_vit", {}, "images of any size"),
        ("vit_tiny_patch16_224", {"qk_norm": True, **SMALL}, "norms of query and key"),
        ("vit_tiny_patch16_224", {"global_pool": "map", **SMALL}, "attention pooling"),
        ("vit_tiny_patch16_224", {"global_pool": "max", **SMALL}, "pooling 'max'"),
        ("vit_tiny_patch16_224", {"in_chans": 1, **SMALL}, "1 channels"),
        ("vit_tiny_patch16_224", {"num_classes": 0, **SMALL}, "no linear classifier head"),
        ("vit_tiny_patch16_224", {"norm_layer": "rmsnorm", **SMALL}, "norm RmsNorm"),
        ("vit_tiny_patch16_224", {"act_layer": "silu", **SMALL}, "activation SiLU"),
        ("vit_tiny_patch16_224", {"patch_size": (16, 8), **SMALL}, r"patches of \(16, 8\)"),
        ("vit_tiny_patch16_224", {"pool_include_prefix": True, "global_pool": "avg", **SMALL}, "prefix tokens"),
        ("vit_tiny_patch16_224", {"scale_attn_norm": True, **SMALL}, "a norm in attention"),
        ("vit_tiny_patch16_224", {"scale_mlp_norm": True, **SMALL}, "a norm in the MLP"),
        ("vit_pwee_patch16_reg1_gap_256", SMALL, "block ParallelScalingBlock"),
        ("vit_dwee_patch16_reg1_gap_256", SMALL, "attention DiffAttention"),
        ("vit_small_r26_s32_224", {"depth": 1}, "patch embedding"),
        ("vit_giant_patch14_dinov2", {"num_classes": 2, "depth": 1, "img_size": 28, "embed_dim": 192}, "MLP"),
        ("regnety_002", {}, "RegNet is no plain ViT"),
    ],
)
def test_what_is_no_canonical_vit_says_why(name: str, options: dict[str, Any], why: str) -> None:
    with pytest.raises(NotCanonical, match=why):
        describe(timm.create_model(name, **options))


def test_a_module_that_only_looks_canonical_is_caught_by_its_logits(lively: Callable[..., nn.Module]) -> None:
    model = lively(timm.create_model("vit_tiny_patch16_224", **SMALL))
    model.blocks[1].attn.register_forward_hook(lambda module, inputs, output: output * 1.5)
    with pytest.raises(NotCanonical, match="logits differ"):
        canonical_vit(model)
