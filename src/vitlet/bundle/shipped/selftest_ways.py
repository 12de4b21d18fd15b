"""The ways in which applications prepare images: how they resize and cut, with which filter, and how they turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from PIL import Image

_PILLOW: Any = getattr(Image, "Resampling", Image)
_NO_ANTIALIAS = " without antialiasing"
#: Pillow's filters, and the two that OpenCV and PyTorch's tensors are resized with unless told otherwise.
FILTERS = (
    *("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"),
    *(f"bilinear{_NO_ANTIALIAS}", f"bicubic{_NO_ANTIALIAS}"),
)
NOT_TURNED, MIRRORED = "not turned as its EXIF orientation says", "mirrored"
UPSIDE_DOWN, TRANSPOSED = "upside down", "with rows and columns exchanged"
#: What is cut of the shorter edge, as a share of what is kept, ends there in any published model.
_LARGEST_MARGIN = 1.4


@dataclass(frozen=True)
class Resize:
    """The image, or the ``box`` (left, top, right, bottom) cut from it, is resized to ``size`` (width, height), of
    which the input is the part that begins at ``corner`` (x, y). ``told`` says it in words.
    """

    told: str
    size: tuple[int, int]
    corner: tuple[int, int]
    box: Optional[tuple[int, int, int, int]] = None


@dataclass(frozen=True)
class Way:
    """What is done otherwise than the image spec says; the defaults follow it."""

    resize: Optional[Resize] = None
    filter: str = ""
    turn: str = ""

    @property
    def changes(self) -> int:
        return sum(map(bool, (self.resize, self.filter, self.turn)))


def ways(spec: Any, size: tuple[int, int], is_turned: bool) -> Iterator[Way]:
    """Every way with one change, for an image of this ``size`` (width, height)."""
    for name in FILTERS:
        if name != spec["interpolation"]:
            yield Way(filter=name)
    if is_turned:
        yield Way(turn=NOT_TURNED)
    for turn in (MIRRORED, UPSIDE_DOWN, TRANSPOSED):
        if turn != TRANSPOSED or spec["height"] == spec["width"]:
            yield Way(turn=turn)
    right = as_specified(spec, size)
    for resize in _resizes(spec, size):
        if (resize.size, resize.corner, resize.box) != (right.size, right.corner, right.box):
            yield Way(resize)


def pixels(way: Way, spec: Any, upright: Image.Image, stored: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """The image prepared in that way: levels, float32 [height, width, 3]; and which pixels are of the image and not
    of what was put around it, bool [height, width].
    """
    image = stored if way.turn == NOT_TURNED else upright
    resize = way.resize or as_specified(spec, image.size)
    resized = _resized(
        image if resize.box is None else image.crop(resize.box), resize.size, way.filter or spec["interpolation"]
    )
    height, width = spec["height"], spec["width"]
    found = np.zeros((height, width, 3), np.float32)
    inside = np.zeros((height, width), bool)
    (x, y), (columns, rows) = resize.corner, resize.size
    to_y, to_x = slice(max(0, -y), max(0, min(height, rows - y))), slice(max(0, -x), max(0, min(width, columns - x)))
    part = resized[max(0, y) : max(0, y) + to_y.stop - to_y.start, max(0, x) : max(0, x) + to_x.stop - to_x.start]
    found[to_y, to_x], inside[to_y, to_x] = part, True
    if way.turn == MIRRORED:
        return found[:, ::-1], inside[:, ::-1]
    if way.turn == UPSIDE_DOWN:
        return found[::-1, ::-1], inside[::-1, ::-1]
    if way.turn == TRANSPOSED:
        return found.transpose(1, 0, 2), inside.T
    return found, inside


def as_specified(spec: Any, size: tuple[int, int]) -> Resize:
    """What the image spec asks for."""
    resize, wanted = spec["resize"], (spec["width"], spec["height"])
    to = _shorter_edge(size, resize) if isinstance(resize, int) else (resize[1], resize[0])
    return Resize("", to, _centre(to, wanted, spec.get("crop_rounding", "even")))


def _resizes(spec: Any, size: tuple[int, int]) -> Iterator[Resize]:
    width, height = wanted = (spec["width"], spec["height"])
    rounding, right = spec.get("crop_rounding", "even"), as_specified(spec, size)
    yield Resize(f"stretched to {width} x {height}", wanted, (0, 0))
    other = "down" if rounding == "even" else "even"
    yield Resize("cut one pixel beside the centre", right.size, _centre(right.size, wanted, other))
    yield Resize(f"{_told(right.size)}, then {width} x {height} cut from the top left corner", right.size, (0, 0))
    yield Resize(f"centre {width} x {height} cut out without resizing", size, _centre(size, wanted, rounding))
    edge = min(size)
    left, top = (size[0] - edge) // 2, (size[1] - edge) // 2
    square = (left, top, left + edge, top + edge)
    yield Resize(f"cut to a square, which was resized to {width} x {height}", wanted, (0, 0), square)
    scale = min(width / size[0], height / size[1])
    whole = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    for corner, where in ((_centre(whole, wanted, "down"), "around it"), ((0, 0), "to the right or below")):
        yield Resize(f"fitted whole into {width} x {height}, with padding {where}", whole, corner)
    for to in range(min(wanted), max(wanted[0], wanted[1], round(_LARGEST_MARGIN * min(wanted))) + 1):
        squashed = (to, to)
        scaled = _shorter_edge(size, to)
        cut = f"then the centre {width} x {height} cut out"
        yield Resize(f"shorter edge resized to {to}, {cut}", scaled, _centre(scaled, wanted, rounding))
        if to > max(wanted):
            yield Resize(f"stretched to {to} x {to}, {cut}", squashed, _centre(squashed, wanted, rounding))


def _told(size: tuple[int, int]) -> str:
    return f"resized to {size[0]} x {size[1]}"


def _shorter_edge(size: tuple[int, int], to: int) -> tuple[int, int]:
    width, height = size
    return (to, int(to * height / width)) if width <= height else (int(to * width / height), to)


def _centre(size: tuple[int, int], wanted: tuple[int, int], rounding: str) -> tuple[int, int]:
    excess = [have - want for have, want in zip(size, wanted)]
    if rounding == "down":
        return excess[0] // 2, excess[1] // 2
    x, y = (round(e / 2) if e >= 0 else -(-e // 2) for e in excess)
    return x, y


def _resized(image: Image.Image, size: tuple[int, int], name: str) -> np.ndarray:
    """uint8 [height, width, 3]"""
    if not name.endswith(_NO_ANTIALIAS):
        return np.asarray(image.resize(size, getattr(_PILLOW, name.upper())))
    source = np.asarray(image).astype(np.float32)
    rows = _taps(source.shape[0], size[1], name)
    columns = _taps(source.shape[1], size[0], name)
    across = np.zeros((source.shape[0], size[0], 3), np.float32)
    for index, weight in columns:
        across += weight[:, np.newaxis] * source[:, index]
    down = np.zeros((size[1], size[0], 3), np.float32)
    for index, weight in rows:
        down += weight[:, np.newaxis, np.newaxis] * across[index]
    return np.clip(np.rint(down), 0, 255).astype(np.uint8)


def _taps(have: int, want: int, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each of the neighbours of an output pixel: its index int [want], and its weight float32 [want]."""
    at = (np.arange(want) + 0.5) * (have / want) - 0.5
    base = np.floor(at)
    taps = []
    for step in (0, 1) if name.startswith("bilinear") else (-1, 0, 1, 2):
        distance = np.abs(at - base - step)
        if name.startswith("bilinear"):
            weight = 1 - distance
        else:  # Keys' kernel with a = -0.75, as OpenCV and PyTorch have it
            near = (1.25 * distance - 2.25) * distance * distance + 1
            far = ((-0.75 * distance + 3.75) * distance - 6) * distance + 3
            weight = np.where(distance <= 1, near, far)
        index = np.clip(base + step, 0, have - 1).astype(int)
        taps.append((index, weight.astype(np.float32)))
    return taps
