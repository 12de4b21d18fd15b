"""One image into one training tensor, varied by timm's transforms from a seed of its own."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vitlet.distill.recipe import Augmentation
from vitlet.errors import InvalidValue
from vitlet.records import ImageSpec

if TYPE_CHECKING:
    import PIL.Image

#: timm passes over the parts of such a text that it cannot read.
_RANDOM_AUGMENT = re.compile(r"rand(-(m|n|p|mstd|mmax|inc)\d+(\.\d+)?|-t(weights|3a|3aw))*")


def training_transform(augmentation: Augmentation, spec: ImageSpec) -> Callable[[PIL.Image.Image], Tensor]:
    """RGB image -> float32 [3, height, width], varied, normalised by the spec: timm's transform of DeiT.

    Raises:
        InvalidValue: timm cannot read the text for RandAugment.
    """
    from timm.data.transforms_factory import create_transform
    from torchvision import transforms

    a = augmentation
    if a.random_augment and not _RANDOM_AUGMENT.fullmatch(a.random_augment):
        raise InvalidValue(f"augmentation.random_augment is {a.random_augment!r}; write it as in rand-m9-mstd0.5-inc1")
    size = (spec.height, spec.width)
    try:
        whole: Any = create_transform(
            (3, *size),
            is_training=True,
            scale=a.area,
            hflip=a.flip,
            color_jitter=a.colour_jitter or None,  # type: ignore[arg-type]  # what timm's own default is
            auto_augment=a.random_augment or None,
            interpolation=spec.interpolation if a.crop != "resized" else a.interpolation,
            mean=spec.mean,
            std=spec.std,
            re_prob=a.erase,
            re_mode="pixel",
        )
    except (AssertionError, ValueError, KeyError, TypeError) as error:
        raise InvalidValue(f"timm cannot make the transforms of augmentation: {error}") from error
    for operation in (each for step in whole.transforms for each in getattr(step, "ops", ())):
        if operation.name.startswith("Posterize"):
            operation.aug_fn = _posterize
    if a.crop != "resized":  # as DeiT does for small images: in the place of timm's random crop
        from torchvision.transforms import InterpolationMode

        shorter_edge = isinstance(spec.resize, int)  # what is beyond the crop then can come in by a shift
        resize = transforms.Resize(spec.resize if shorter_edge else size, InterpolationMode(spec.interpolation))
        cut: list[Any] = [transforms.CenterCrop(size)] if shorter_edge else []
        if a.crop == "shifted" and a.shift:
            cut = [transforms.RandomCrop(size, padding=a.shift)]
            if shorter_edge:  # no further than that from the centre
                cut = [transforms.CenterCrop([edge + 2 * a.shift for edge in size]), transforms.RandomCrop(size)]
        whole.transforms[0] = transforms.Compose([resize, *cut])
    return whole


def _posterize(image: PIL.Image.Image, bits: int, **_: Any) -> PIL.Image.Image:
    """timm's, which at RandAugment's full strength keeps no bits: black, as for DeiT. Pillow 13 refuses that."""
    from PIL import Image, ImageOps

    return ImageOps.posterize(image, min(bits, 8)) if bits > 0 else Image.new(image.mode, image.size)


def seed_all(seed: int) -> None:
    """Seed the three generators that timm's transforms draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


@contextmanager
def kept_generators() -> Iterator[None]:
    """Give those generators back as they were."""
    python, numpy, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(torch_state)
