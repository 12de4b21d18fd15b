"""Any PIL image to RGB with 8 bits a channel, the way timm and transformers do it where they are
right.

They call ``image.convert("RGB")``, and so does this: alpha and palette transparency are dropped, not
blended (the colour that stands under a transparent pixel counts), gray is repeated, CMYK and YCCK
are converted by PIL's plain formula, and an ICC profile is ignored.

It departs where ``convert`` gives a wrong picture. Gray with more than 8 bits is clipped by PIL, so
that nearly all of it comes out white; here its range is scaled to 8 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitlet.errors import UnreadableImage

if TYPE_CHECKING:
    import PIL.Image

_DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})
_TIFF_BITS_PER_SAMPLE = 258
_TIFF_PHOTOMETRIC = 262
_TIFF_WHITE_IS_ZERO = 0


def to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """A new image in mode RGB; ``image`` is left as it is.

    Raises:
        UnreadableImage: gray of 32 bits whose white level cannot be known.
        ValueError: a colour space that PIL cannot convert.
    """
    from PIL import Image

    if image.mode in _DEEP_MODES:
        image = Image.fromarray(_eight_bits(image))
    elif "transparency" in image.info:
        # PIL would warn that a transparent palette loses its alpha, which is what is wanted here.
        image = image.copy()
        del image.info["transparency"]
    return image.convert("RGB")


def _eight_bits(image: PIL.Image.Image) -> np.ndarray:
    """Deep gray -> uint8 [height, width]."""
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    if values.dtype.kind == "u":
        bits = (tags.get(_TIFF_BITS_PER_SAMPLE) or (16,))[0]
        # The high byte, which is what PIL itself takes of 16-bit RGB.
        gray = (values >> max(0, bits - 8)).astype(np.uint8)
    else:
        white = 65535.0 if image.format == "PPM" and image.mode == "I" else _white_level(values)
        gray = np.floor(values * (255.0 / white) + 0.5).astype(np.uint8)
    # PIL inverts 8-bit gray TIFFs that store white as zero, but not deeper ones.
    return 255 - gray if tags.get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO else gray


def _white_level(values: np.ndarray) -> float:
    """The value of white where no header states it: 1 (floats only), 255 or 65535, the first that
    holds all values.
    """
    low, high = float(values.min()), float(values.max())
    if low >= 0:
        for white in (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0):
            if high <= white:
                return white
    raise UnreadableImage(
        f"its 32-bit values run from {low:g} to {high:g}, so which one is white is unknown; save it with 8 or 16 bits"
    )
