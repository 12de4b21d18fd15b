"""An image file -> the model's input, exactly as the model was measured.

How is said by the ``manifest.json`` beside this file::

    from preprocess import load

    images = load("photo.jpg")  # float32 [1, 3, height, width], as the model takes it

Needs numpy and Pillow. The steps are: decode, turn upright (EXIF), RGB, resize, cut from the centre, divide by 255,
subtract the mean, divide by the standard deviation. ``python selftest.py --preprocess FILE.py:FUNCTION`` tells
whether code of your own does the same.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from PIL import Image, UnidentifiedImageError

Spec = Mapping[str, Any]
"""``image_spec`` of the manifest: height, width, resize, interpolation, mean, std, crop_rounding."""

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
_MOST_EDGE = 8192
_DEEP_GRAY = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_EXIF_ORIENTATION, _TIFF_BITS, _TIFF_PHOTOMETRIC = 274, 258, 262
_FILTERS: Any = getattr(Image, "Resampling", Image)
_TURNS: Any = getattr(Image, "Transpose", Image)
_TURN_OF_ORIENTATION = {
    2: _TURNS.FLIP_LEFT_RIGHT,
    3: _TURNS.ROTATE_180,
    4: _TURNS.FLIP_TOP_BOTTOM,
    5: _TURNS.TRANSPOSE,
    6: _TURNS.ROTATE_270,
    7: _TURNS.TRANSVERSE,
    8: _TURNS.ROTATE_90,
}


def load(image: Union[str, os.PathLike[str], bytes], spec: Optional[Spec] = None) -> np.ndarray:
    """An image file (its path, or its bytes) -> float32 [1, 3, height, width], C-contiguous.

    ``spec`` is read from the manifest beside this file if it is not given.

    Raises:
        ValueError: it is no image, is damaged, or is too long and thin.
        OSError: the file cannot be read.
    """
    return to_input(read(image), read_spec() if spec is None else spec)


def read_spec(folder: Optional[Path] = None) -> Spec:
    """The ``image_spec`` of the bundle in ``folder``, which is where this file lies if none is given.

    Raises:
        ValueError: a value is missing or out of its range.
    """
    path = (Path(__file__).parent if folder is None else folder) / "manifest.json"
    manifest = json.loads(path.read_bytes())
    return checked_spec(manifest.get("image_spec") if isinstance(manifest, dict) else None)


def checked_spec(spec: Any) -> Spec:
    """Return ``spec`` if it can be followed.

    Raises:
        ValueError: a value is missing or out of its range; says which.
    """
    if not isinstance(spec, Mapping):
        raise ValueError("manifest.json has no image_spec")
    resize = spec.get("resize")
    edges = resize if isinstance(resize, (list, tuple)) and len(resize) == 2 else [resize]
    for name, value in (("height", spec.get("height")), ("width", spec.get("width")), *(("resize", e) for e in edges)):
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST_EDGE:
            raise ValueError(f"image_spec.{name} is {value!r}; it must be 1 to {_MOST_EDGE} pixels")
    for name, least in (("mean", -math.inf), ("std", 0)):
        values = spec.get(name)
        if not isinstance(values, (list, tuple)) or len(values) != 3 or not all(_is_number(v, least) for v in values):
            above = ", above 0" if name == "std" else ""
            raise ValueError(f"image_spec.{name} is {values!r}; it must be 3 numbers, one each for R, G, B{above}")
    if spec.get("interpolation") not in ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"):
        raise ValueError(f"image_spec.interpolation is {spec.get('interpolation')!r}, which is no filter of Pillow")
    if spec.get("crop_rounding", "even") not in ("even", "down"):
        raise ValueError(f"image_spec.crop_rounding is {spec.get('crop_rounding')!r}; it must be 'even' or 'down'")
    return spec


def _is_number(value: object, above: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > above


def read(image: Union[str, os.PathLike[str], bytes], *, upright: bool = True) -> Image.Image:
    """Decode an image file (its path, or its bytes) to RGB, turned as its EXIF orientation says if ``upright``.

    Transparency is dropped, gray repeated, deep gray scaled to 8 bits; of an animation the first picture is taken.

    Raises:
        ValueError: it is no image or damaged.
        OSError: the file cannot be read.
    """
    content = image if isinstance(image, bytes) else Path(image).read_bytes()
    name = "the image" if isinstance(image, bytes) else os.fspath(image)
    Image.init()
    try:
        with Image.open(io.BytesIO(content), formats=[f for f in _FORMATS if f in Image.OPEN]) as opened:
            opened.load()
            turn = _turn(opened) if upright else None
            rgb = _rgb(opened)
    except UnidentifiedImageError:
        raise ValueError(f"{name} is no image of a known kind ({', '.join(_FORMATS)})") from None
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} is damaged or too large: {error}") from error
    return rgb if turn is None else rgb.transpose(turn)


def to_input(image: Image.Image, spec: Spec) -> np.ndarray:
    """An upright RGB image -> float32 [1, 3, height, width]."""
    return normalise(crop(image, spec)[np.newaxis], spec)


def crop(image: Image.Image, spec: Spec) -> np.ndarray:
    """Resize an RGB image and cut the centre out: uint8 [height, width, 3]; what is missing is black.

    Raises:
        ValueError: it is so long and thin that resizing it would need gigabytes.
    """
    width, height = _resized_size(image.width, image.height, spec["resize"])
    if width * height > _MOST_EDGE * _MOST_EDGE:
        raise ValueError(f"{image.width} x {image.height} pixels is too long and thin; crop the image first")
    resized = np.asarray(image.resize((width, height), getattr(_FILTERS, spec["interpolation"].upper())))
    rounding = spec.get("crop_rounding", "even")
    rows, rows_to = _overlap(height, spec["height"], rounding)
    columns, columns_to = _overlap(width, spec["width"], rounding)
    pixels = np.zeros((spec["height"], spec["width"], 3), np.uint8)
    pixels[rows_to, columns_to] = resized[rows, columns]
    return pixels


def normalise(pixels: np.ndarray, spec: Spec) -> np.ndarray:
    """uint8 [n, height, width, 3] -> float32 [n, 3, height, width]: ``(pixels / 255 - mean) / std`` in float32."""
    images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32)
    images /= np.float32(255)
    images -= np.asarray(spec["mean"], np.float32)[:, np.newaxis, np.newaxis]
    images /= np.asarray(spec["std"], np.float32)[:, np.newaxis, np.newaxis]
    return images


def _resized_size(width: int, height: int, resize: Any) -> tuple[int, int]:
    """(width, height): a number is the shorter edge, and the longer is cut to an integer; a pair is (height, width)."""
    if not isinstance(resize, int):
        return resize[1], resize[0]
    if width <= height:
        return resize, int(resize * height / width)
    return int(resize * width / height), resize


def _overlap(available: int, wanted: int, rounding: str) -> tuple[slice, slice]:
    """Along one edge: what to take of the ``available`` pixels, and where among the ``wanted`` it goes."""
    excess = available - wanted
    # torchvision takes the half rounded to even when it cuts, and the smaller half in front when it pads.
    even = round(excess / 2) if excess >= 0 else -(-excess // 2)
    start = excess // 2 if rounding == "down" else even
    size = min(available, wanted)
    return slice(max(0, start), max(0, start) + size), slice(max(0, -start), max(0, -start) + size)


def _turn(image: Image.Image) -> Any:
    """What makes a loaded image upright; None if it is, or its EXIF data are broken."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:
        return None
    return _TURN_OF_ORIENTATION.get(orientation) if isinstance(orientation, int) else None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in _DEEP_GRAY:
        return Image.fromarray(_eight_bits(image)).convert("RGB")
    if "transparency" in image.info:
        image = image.copy()
        del image.info["transparency"]
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> np.ndarray:
    """Deep gray, which Pillow would clip -> uint8 [height, width]."""
    tags: Any = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    if values.dtype.kind == "u":
        bits = (tags.get(_TIFF_BITS) or (16,))[0]
        gray = (values >> max(0, bits - 8)).astype(np.uint8)
    else:
        white = 65535.0 if image.format == "PPM" and image.mode == "I" else _white_level(values)
        gray = np.floor(values * (255.0 / white) + 0.5).astype(np.uint8)
    return 255 - gray if tags.get(_TIFF_PHOTOMETRIC) == 0 else gray


def _white_level(values: np.ndarray) -> float:
    low, high = float(values.min()), float(values.max())
    for white in (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0):
        if low >= 0 and high <= white:
            return white
    raise ValueError(f"its values run from {low:g} to {high:g}, so which one is white is unknown; save it with 8 bits")
