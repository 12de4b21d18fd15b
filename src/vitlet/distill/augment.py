"""Pixels into training images: random shift, mirror and erasing of a whole batch at once.

timm's and torchvision's transforms work on one image at a time through PIL, which for images of
28x28 costs more than the training step itself; these do the same to a batch of tensors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vitlet.distill.recipe import Recipe
from vitlet.records import ImageSpec


def normalised(pixels: Tensor, spec: ImageSpec) -> Tensor:
    """uint8 [batch, height, width] or [batch, height, width, 3] -> float32 [batch, 3, height, width],
    normalised by the spec's mean and standard deviation."""
    images = pixels.unsqueeze(1) if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2)
    mean = torch.tensor(spec.mean).view(1, 3, 1, 1)
    std = torch.tensor(spec.std).view(1, 3, 1, 1)
    return (images.float() / 255 - mean) / std


def augmented(pixels: Tensor, spec: ImageSpec, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Like ``normalised``, each image varied by the recipe; ``generator`` is all the randomness."""
    moved = shift_and_flip(pixels, recipe.shift, recipe.flip, generator)
    return erase(normalised(moved, spec), recipe.erase, generator)


def shift_and_flip(pixels: Tensor, shift: int, flip: float, generator: torch.Generator) -> Tensor:
    """Move each image by up to ``shift`` pixels along both axes, black coming in, and mirror this share.

    pixels: uint8 [batch, height, width, ...] -> the same shape.
    """
    batch, height, width = pixels.shape[:3]
    down = torch.randint(0, 2 * shift + 1, (batch, 1), generator=generator)
    across = torch.randint(0, 2 * shift + 1, (batch, 1), generator=generator)
    mirror = torch.rand(batch, 1, generator=generator) < flip
    rows = down + torch.arange(height)
    columns = torch.arange(width).expand(batch, -1)
    columns = across + torch.where(mirror, width - 1 - columns, columns)
    channels = (0, 0) * (pixels.dim() - 3)
    padded = F.pad(pixels, (*channels, shift, shift, shift, shift))
    return padded[torch.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :]]


def erase(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Random erasing (1708.04896): in this share of images a rectangle becomes Gaussian noise.

    images: float32 [batch, channels, height, width] -> the same shape. The rectangle covers 2 % to
    33 % of the area, its sides in a ratio of 0.3 to 3.3; it may be cut by the image's border.
    """
    batch, _, height, width = images.shape
    draw = torch.rand(5, batch, 1, 1, generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    area = (0.02 + draw[0] * (0.33 - 0.02)) * height * width
    ratio = torch.exp(math.log(0.3) + draw[1] * (math.log(3.3) - math.log(0.3)))
    half_height, half_width = (area * ratio).sqrt() / 2, (area / ratio).sqrt() / 2
    rows = torch.arange(height).view(1, height, 1) - draw[2] * (height - 1)
    columns = torch.arange(width).view(1, 1, width) - draw[3] * (width - 1)
    inside = (rows.abs() <= half_height) & (columns.abs() <= half_width) & (draw[4] < share)
    return torch.where(inside.unsqueeze(1), noise, images)
