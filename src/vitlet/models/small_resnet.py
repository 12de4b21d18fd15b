"""A small convolutional network for small images: what ``distill`` trains where no teacher is named.

DeiT (2012.12877, section 5.2) found that a convolutional teacher serves a ViT better than a transformer of the
same accuracy: the student takes over its inductive bias. It is registered with timm under ``SMALL_RESNET``, so
that it is stored, loaded and exported like any timm model.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models import register_model
from torch import nn

from vitlet.models.build import SMALL_RESNET, build
from vitlet.records import Classifier, ImageSpec, TimmArchitecture


def small_resnet(spec: ImageSpec, labels: tuple[str, ...], *, seed: int = 0) -> Classifier:
    """One with random weights for these images and classes; the caller's random state is left as it was."""
    architecture = TimmArchitecture(SMALL_RESNET, len(labels), spec.height, spec.width)
    return Classifier(
        build(architecture, seed=seed),
        architecture,
        spec,
        labels,
        reference="small-resnet",
        library="checkpoint",
        random_weights=True,
        seed=seed,
    )


@register_model
def vitlet_small_resnet(pretrained: bool = False, num_classes: int = 1000, **_: Any) -> nn.Module:
    """timm's ResNet (1512.03385) with four single-block stages of 32, 64, 128 and 128 channels, and
    for small images the usual change: a 3x3 stem of stride 1 and no max-pooling. 0.63 million parameters
    for 10 classes; there are no ``pretrained`` weights.
    """
    from timm.models.resnet import BasicBlock, ResNet

    block: Any = BasicBlock  # timm annotates the instance where it wants the class
    model: Any = ResNet(
        block,
        layers=(1, 1, 1, 1),
        channels=(32, 64, 128, 128),
        num_classes=num_classes,
        stem_type="deep",
        stem_width=16,
    )
    # A deep stem is a chain of three convolutions of which the first has stride 2.
    model.conv1[0].stride = (1, 1)
    model.maxpool = nn.Identity()
    module: nn.Module = model.to(memory_format=torch.channels_last)  # the faster layout for bfloat16 on CPUs
    return module
