"""The student at the start of its training: a small ViT, with weights that suit a small one."""

from __future__ import annotations

import torch
from torch import nn

from vitlet.data.datasets import LabelledPixels
from vitlet.models.vit import VisionTransformer, build_vit, sine_cosine_positions
from vitlet.records import VitArchitecture


def small_vit(data: LabelledPixels, *, distillation_token: bool) -> VitArchitecture:
    """The bundled model's architecture, for these images: patch 4, width 96, 6 blocks, 3 heads."""
    height, width = data.size
    return VitArchitecture(
        image_height=height,
        image_width=width,
        patch=4,
        width=96,
        depth=6,
        heads=3,
        mlp_width=384,
        classes=len(data.class_names),
        distillation_token=distillation_token,
    )


def new_student(architecture: VitArchitecture, *, seed: int, drop_path: float) -> VisionTransformer:
    """Build the ViT with seeded weights, in eval mode; the caller's random state is left as it was.

    DeiT's normal distribution of width 0.02 is right for 192 channels and more; at 96 it starts so
    faint that the first epochs are lost. The blocks begin as in the original ViT instead, Xavier
    uniform (2010.11929), and learned positions as the fixed sine-cosine ones (2104.02057), so that
    the model knows from the first step where a patch lies.
    """
    model = build_vit(architecture, seed=seed, drop_path=drop_path)
    generator = torch.Generator().manual_seed(seed)
    for module in model.blocks.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
    if architecture.width % 4 == 0:
        with torch.no_grad():
            model.position.copy_(sine_cosine_positions(*architecture.grid, architecture.width))
    return model
