"""What one training step asks of a model: images and labels in, the loss to minimise out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from vitlet.distill.losses import hard_distillation_loss, label_loss

#: (model, images float32 [batch, 3, height, width], labels int64 [batch]) -> loss float32 []
Objective: TypeAlias = Callable[[nn.Module, Tensor, Tensor], Tensor]


def learn_labels(smoothing: float) -> Objective:
    """Cross-entropy with the labels alone, for any classifier with one output."""

    def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return label_loss(model(images), labels, smoothing=smoothing)

    return loss


def learn_from_teacher(teacher: nn.Module, smoothing: float) -> Objective:
    """Hard-label distillation for a ViT with a distillation token: the teacher, in eval mode, sees
    the very images that the student sees, augmentation included."""

    def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            decisions = teacher(images).argmax(dim=1)
        by_class, by_teacher = model.both_heads(images)  # type: ignore[operator]
        return hard_distillation_loss(by_class, by_teacher, labels, decisions, smoothing=smoothing)

    return loss
