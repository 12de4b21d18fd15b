"""Images that two sets share: the same pixels, or nearly the same picture.

A picture that a model was calibrated with or chosen by says too much good of it when it also judges; of CIFAR-100's
test images a tenth are in the training set, re-encoded, scaled or shifted a little (Barz and Denzler, "Do We Train on
Test Data?", arXiv 1902.00423).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitlet.data.calibration import Calibration
from vitlet.data.imageset import ImageSet, Skipped
from vitlet.errors import EmptyPart

#: Pictures are compared as thumbnails of so many pixels in each direction.
_EDGE = 16
#: Two are nearly the same if their thumbnails differ by at most so many levels of 255 (root mean square) ...
_LEVELS = 3.0
#: ... and by at most this share of the one's own contrast (standard deviation): plain areas are all alike. A photo that
#: was saved as a JPEG of quality 30, or scaled to a half, lies within both; of 6,000 Fashion-MNIST images none does.
_SHARE_OF_CONTRAST = 0.1
#: Rows that are compared at once: bounds the memory for their distances.
_ROWS = 1024


@dataclass(frozen=True)
class Twins:
    """Image ``name`` of one set looks like ``other`` of another one."""

    name: str
    other: str


@dataclass(frozen=True)
class Pictures:
    """``pixels``: uint8 [images, height, width, 3], and what each is called."""

    pixels: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def of(cls, source: ImageSet | Calibration) -> Pictures:
        """Those of a set, or those that a calibration takes; none of random inputs."""
        if isinstance(source, ImageSet):
            return cls(_mapped(source.pixels_path), source.names)
        if source.pixels_path is None:
            return cls(np.empty((0, source.spec.height, source.spec.width, 3), np.uint8), ())
        names = source.names or tuple(f"image {row}" for row in source.indices)
        return cls(_mapped(source.pixels_path)[list(source.indices)], names)


def fingerprints(pixels: np.ndarray) -> np.ndarray:
    """uint64 [images] of uint8 [images, height, width, 3]: equal for equal pixels, else different but for one chance in
    10^19 (BLAKE2b, RFC 7693).
    """
    found = [hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest() for image in pixels]
    return np.frombuffer(b"".join(found), np.uint64)


def without_copies(images: ImageSet, others: Sequence[Pictures]) -> ImageSet:
    """The set without the images whose very pixels are in one of the ``others``, or earlier in the set itself: each
    picture is to count once. These become ``skipped``.

    The pixels that are left are written beside those that were there.

    Raises:
        EmptyPart: none is left.
        NotWritable: there is no room for them.
    """
    pixels = _mapped(images.pixels_path)
    mine = fingerprints(pixels)
    is_theirs = np.zeros(images.count, bool)
    for other in others:
        is_theirs |= np.isin(mine, fingerprints(other.pixels))
    is_again = np.ones(images.count, bool)
    is_again[np.unique(mine, return_index=True)[1]] = False
    is_copy = is_theirs | is_again
    if not is_copy.any():
        return images
    kept = np.flatnonzero(~is_copy).tolist()
    if not kept:
        raise EmptyPart(f"all {images.count} images to certify with are among those to choose or calibrate by")
    left = images.subset(kept, images.pixels_path.with_name("without-copies.npy"))
    reasons = (
        "the same picture is among those to certify with already",
        "the same picture is among those to choose or calibrate by, so it cannot certify",
    )
    skipped = tuple(
        Skipped(images.names[index], reasons[int(is_theirs[index])]) for index in np.flatnonzero(is_copy).tolist()
    )
    return replace(left, skipped=images.skipped + skipped)


def near_twins(images: ImageSet, others: Sequence[Pictures]) -> tuple[Twins, ...]:
    """Each of ``images`` that looks like one of the ``others``, with the one that it looks most like."""
    names = [name for other in others for name in other.names]
    if not names:
        return ()
    mine = _thumbnails(_mapped(images.pixels_path))
    theirs = np.concatenate([_thumbnails(other.pixels) for other in others if other.names])
    allowed = np.minimum(_LEVELS, _SHARE_OF_CONTRAST * mine.std(axis=1))
    found = []
    for start in range(0, len(mine), _ROWS):
        rows = mine[start : start + _ROWS]
        # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b: one matrix product instead of a distance for each pair.
        squares = (rows**2).mean(axis=1)[:, None] + (theirs**2).mean(axis=1) - 2 / rows.shape[1] * (rows @ theirs.T)
        nearest = squares.argmin(axis=1)
        distance = np.sqrt(np.maximum(squares[np.arange(len(rows)), nearest], 0))
        for row in np.flatnonzero(distance <= allowed[start : start + _ROWS]).tolist():
            found.append(Twins(images.names[start + row], names[nearest[row]]))
    return tuple(found)


def _thumbnails(pixels: np.ndarray) -> np.ndarray:
    """uint8 [images, height, width, 3] -> float64 [images, 16 * 16 * 3] on 0..255."""
    from PIL import Image

    size = (_EDGE, _EDGE)
    small = [np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)) for image in pixels]
    return np.stack(small).reshape(len(small), -1).astype(np.float64)


def _mapped(path: Path) -> np.ndarray:
    pixels: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return pixels
