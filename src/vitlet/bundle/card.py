"""The test card: a picture in which every way of preparing it wrongly leaves a trace.

Colours differ in all channels and corners (order of channels, mirroring), slopes are smooth (mean, deviation), bars
narrow from 8 pixels to one (filters, antialiasing), discs have sharp edges all around (stretching). Its size is such
that the crop's two roundings give different pixels.
"""

from __future__ import annotations

import io

import numpy as np

from vitlet.records import ImageSpec

_SMALLEST, _LARGEST = 96, 1200
_ORIENTATION = 274
#: EXIF: the camera was held so that the picture must be turned by 90 degrees clockwise to stand.
_LYING = 6


def make_card(spec: ImageSpec) -> bytes:
    """A PNG, about one and a half times as large as the model's input, wider than high."""
    from PIL import Image

    height, width = _size(spec)
    file = io.BytesIO()
    Image.fromarray(card_pixels(height, width)).save(file, "PNG", optimize=True)
    return file.getvalue()


def lay_down(card: bytes) -> bytes:
    """The same picture, stored lying on its side, with the EXIF orientation that makes it stand."""
    from PIL import Image

    exif = Image.Exif()
    exif[_ORIENTATION] = _LYING
    file = io.BytesIO()
    with Image.open(io.BytesIO(card)) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(file, "PNG", optimize=True, exif=exif)
    return file.getvalue()


def card_pixels(height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 3]"""
    y, x = np.mgrid[0:height, 0:width]
    across, down = x / (width - 1), y / (height - 1)
    pixels = np.stack([40 + 190 * across, 200 - 150 * down, 60 + 70 * (across + down)], axis=2)
    # Bars that narrow from left to right in the upper half, from top to bottom at the left edge.
    period = np.maximum(2, 16 * (1 - across))
    upper = (down > 0.08) & (down < 0.42)
    pixels[upper & ((x // (period / 2)).astype(int) % 2 == 0)] = (250, 235, 30)
    period = np.maximum(2, 14 * (1 - down))
    left = (across > 0.04) & (across < 0.3) & (down > 0.45)
    pixels[left & ((y // (period / 2)).astype(int) % 2 == 0)] = (20, 60, 240)
    for centre_x, centre_y, radius, colour in (
        (0.45, 0.7, 0.2, (230, 20, 40)),
        (0.75, 0.72, 0.22, (20, 200, 90)),
        (0.75, 0.72, 0.09, (255, 255, 255)),
        (0.6, 0.25, 0.13, (0, 0, 0)),
    ):
        inside = (x - centre_x * width) ** 2 + (y - centre_y * height) ** 2 < (radius * height) ** 2
        pixels[inside] = colour
    pixels[: height // 10, : width // 5] = (255, 0, 255)
    # What a filter makes of single bright and dark pixels tells it apart from any other.
    specks = np.random.default_rng(5).random((height, width))
    pixels[specks > 0.985] = (255, 255, 255)
    pixels[specks < 0.015] = (0, 0, 0)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _size(spec: ImageSpec) -> tuple[int, int]:
    """(height, width), for which as much is cut off each side as shows how the half is rounded."""
    edge = spec.resize if isinstance(spec.resize, int) else max(spec.resize)
    height = min(max(round(1.5 * edge), _SMALLEST), _LARGEST) | 1
    width = round(1.33 * height)
    if isinstance(spec.resize, int):
        # 3 pixels more than a multiple of 4: the half rounded to even and the half rounded down are then apart.
        wider = range(width, width + 16)
        width = next((w for w in wider if (int(spec.resize * w / height) - spec.width) % 4 == 3), width)
    return height, width
