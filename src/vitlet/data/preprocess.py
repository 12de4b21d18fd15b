"""From a decoded image to the model's input, by an ``ImageSpec``: resize, centre crop, normalise.

Held to the libraries that the models come from (``tests/data/test_preprocess.py``):

- timm's evaluation transform (torchvision's ``Resize``, ``CenterCrop``, ``ToTensor``, ``Normalize``
  on PIL images): equal bit for bit. The resampling is PIL's own, and the arithmetic is theirs:
  float32, divide by 255, subtract the mean, divide by the standard deviation.
- transformers' PIL-backed processors: equal bit for bit too. They multiply by 1/255 in float64 and
  round to float32, which gives the same number for each of the 256 byte values.
- transformers' torchvision-backed processors (its default since version 5, where torchvision is
  installed) resample with other code, so they cannot be equal. A resized byte comes out 1 level of
  255 apart at most with bilinear; with bicubic and lanczos mostly 1 or 2, and up to 20 at single
  pixels where a sharp edge overshoots, because PIL cuts to 0..255 after each of its two passes and
  torchvision only at the end. The mean over an image stays below 0.2 levels. vitlet keeps to PIL:
  the published accuracies of ViT, DeiT and DINOv2 were measured with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitlet.errors import InvalidValue, UnreadableImage
from vitlet.records import ImageSpec

if TYPE_CHECKING:
    import PIL.Image

#: The largest image, in pixels, that resizing may make: what the largest ImageSpec asks for. Only a
#: very long and thin image goes beyond it (1 x 2000 scaled to a shorter edge of 256: 131 Mpixel).
MAX_RESIZED_PIXELS = 8192 * 8192


def crop_pixels(image: PIL.Image.Image, spec: ImageSpec) -> np.ndarray:
    """Resize and centre-crop an RGB image to uint8 [height, width, 3].

    Where the resized image is smaller than the crop, it is centred on black, as the libraries do.

    Raises:
        InvalidValue: the image is not in mode RGB (``read_image`` and ``to_rgb`` give RGB).
        UnreadableImage: the image is so long and thin that resizing it would need gigabytes.
    """
    from PIL import Image

    if image.mode != "RGB":
        raise InvalidValue(f"the image is in mode {image.mode!r}; convert it to 'RGB' with to_rgb first")
    width, height = _resized_size(image.width, image.height, spec)
    if width * height > MAX_RESIZED_PIXELS:
        raise UnreadableImage(
            f"{image.width} x {image.height} pixels is too long and thin: scaled for the model it would be "
            f"{width} x {height}; crop it first"
        )
    resized = np.asarray(image.resize((width, height), Image.Resampling[spec.interpolation.upper()]))
    rows, rows_to = _overlap(height, spec.height, spec.crop_rounding)
    columns, columns_to = _overlap(width, spec.width, spec.crop_rounding)
    pixels = np.zeros((spec.height, spec.width, 3), np.uint8)
    pixels[rows_to, columns_to] = resized[rows, columns]
    return pixels


def normalise(pixels: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """uint8 [n, height, width, 3] on 0..255 -> float32 [n, 3, height, width], C-contiguous:
    ``(pixels / 255 - mean) / std`` in float32, in this order.

    Raises:
        InvalidValue: another shape or dtype.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise InvalidValue(f"pixels are {pixels.dtype} {list(pixels.shape)}; they must be uint8 [n, height, width, 3]")
    count, height, width, _ = pixels.shape
    images = np.empty((count, 3, height, width), np.float32)
    np.divide(pixels.transpose(0, 3, 1, 2), np.float32(255), out=images, dtype=np.float32)
    images -= np.asarray(spec.mean, np.float32)[:, None, None]
    images /= np.asarray(spec.std, np.float32)[:, None, None]
    return images


def preprocess(image: PIL.Image.Image, spec: ImageSpec) -> np.ndarray:
    """An RGB image -> the model's input without the batch, float32 [3, height, width].

    Raises:
        InvalidValue, UnreadableImage: as ``crop_pixels``.
    """
    images: np.ndarray = normalise(crop_pixels(image, spec)[None], spec)
    return images[0]


def _resized_size(width: int, height: int, spec: ImageSpec) -> tuple[int, int]:
    """(width, height) after resizing. The longer edge is cut to an integer, not rounded: both
    torchvision and transformers do so.
    """
    if not isinstance(spec.resize, int):
        return spec.resize[1], spec.resize[0]
    if width <= height:
        return spec.resize, int(spec.resize * height / width)
    return int(spec.resize * width / height), spec.resize


def _overlap(available: int, wanted: int, rounding: str) -> tuple[slice, slice]:
    """Along one edge: what to take of the ``available`` pixels, and where in the ``wanted`` it goes."""
    excess = available - wanted
    # torchvision cuts at the half rounded to even, but pads the smaller half in front.
    even = round(excess / 2) if excess >= 0 else -(-excess // 2)
    start = excess // 2 if rounding == "down" else even
    size = min(available, wanted)
    return slice(max(0, start), max(0, start) + size), slice(max(0, -start), max(0, -start) + size)
