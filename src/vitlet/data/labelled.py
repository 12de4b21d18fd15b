"""Images with their classes, for training and for testing: one interface, whether they lie in memory or in files.

A set knows its labels at once and decodes an image only when it is read, so a broken file shows in ``read``. Sets
can be pickled: worker processes read from their own copy. (Rows of Hugging Face data sets are in ``rows``.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from vitlet.data.read import read_bytes, read_image
from vitlet.errors import InvalidValue

if TYPE_CHECKING:
    import PIL.Image


class LabelledImages(Protocol):
    """``count`` images with one class each.

    ``labels``: int64 [count], indices into ``class_names``. ``digest`` is a SHA-256 (hexadecimal) that two sets
    share only if they hold the same images with the same labels and class names, as far as can be told cheaply.
    """

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def count(self) -> int: ...

    @property
    def digest(self) -> str: ...

    def name(self, index: int) -> str:
        """What messages call that image."""
        ...

    def read(self, index: int) -> PIL.Image.Image:
        """That image in mode RGB, upright.

        Raises:
            UnreadableImage: it is missing or broken; the message names it.
        """
        ...

    def content(self, index: int) -> bytes:
        """The bytes that hold that image: a file's as they are, or its pixels.

        Raises:
            UnreadableImage: it is missing; the message names it.
        """
        ...

    def subset(self, indices: Sequence[int] | np.ndarray) -> Self:
        """These images, in this order.

        Raises:
            InvalidValue: an index is no integer from 0 to ``count`` - 1.
        """
        ...


@dataclass(frozen=True, eq=False)
class LabelledPixels:
    """Images of one size in memory, with their classes.

    ``pixels``: uint8 [count, height, width] (gray) or [count, height, width, 3] (RGB).
    ``labels``: int64 [count], indices into ``class_names``. ``digest`` is of pixels, labels and class names.

    Raises:
        InvalidValue: another shape or dtype, or a label that has no class name.
    """

    pixels: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] != 3):
            raise InvalidValue(
                f"pixels are {self.pixels.dtype} {list(shape)}; they must be uint8 [n, h, w] or [n, h, w, 3]"
            )
        check_labels(self.labels, shape[0], self.class_names)

    @property
    def count(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[1], self.pixels.shape[2]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of pixels, labels and class names."""
        found = hashlib.sha256(repr(self.pixels.shape).encode())
        found.update(np.ascontiguousarray(self.pixels).data)
        return digest_of(found, self.labels, self.class_names)

    def name(self, index: int) -> str:
        return f"image {index}"

    def read(self, index: int) -> PIL.Image.Image:
        """That image in mode RGB."""
        from PIL import Image

        return Image.fromarray(self.pixels[index]).convert("RGB")

    def content(self, index: int) -> bytes:
        """Its pixels, row by row."""
        return self.pixels[index].tobytes()

    def subset(self, indices: Sequence[int] | np.ndarray) -> Self:
        """A copy of these images, in this order.

        Raises:
            InvalidValue: an index is no integer from 0 to ``count`` - 1.
        """
        chosen = check_indices(indices, self.count)
        return replace(self, pixels=self.pixels[chosen], labels=self.labels[chosen])

    def first(self, count: int) -> Self:
        """The first ``count`` images, or all if there are fewer; their pixels are shared, not copied."""
        return replace(self, pixels=self.pixels[:count], labels=self.labels[:count])


@dataclass(frozen=True, eq=False)
class LabelledFiles:
    """Image files of any size, with their classes.

    ``paths`` are relative to ``root``. ``labels``: int64 [count], indices into ``class_names``. ``digest`` is of
    paths, file sizes, labels and class names, wherever ``root`` lies.

    Raises:
        InvalidValue: labels of another shape or dtype, or one that has no class name.
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    root: Path

    def __post_init__(self) -> None:
        check_labels(self.labels, len(self.paths), self.class_names)

    @property
    def count(self) -> int:
        return len(self.paths)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of paths, file sizes, labels and class names; the files themselves are not read."""
        found = hashlib.sha256()
        for path in self.paths:
            found.update(f"{path}\0{_size_bytes(self.root / path)}\0".encode(errors="surrogateescape"))
        return digest_of(found, self.labels, self.class_names)

    def name(self, index: int) -> str:
        return str(self.root / self.paths[index])

    def read(self, index: int) -> PIL.Image.Image:
        """That image in mode RGB, upright.

        Raises:
            UnreadableImage: it is missing or broken; the message names it.
        """
        return read_image(self.root / self.paths[index], self.name(index))

    def content(self, index: int) -> bytes:
        """The file.

        Raises:
            UnreadableImage: it is missing; the message names it.
        """
        return read_bytes(self.root / self.paths[index], self.name(index))

    def subset(self, indices: Sequence[int] | np.ndarray) -> Self:
        """These images, in this order.

        Raises:
            InvalidValue: an index is no integer from 0 to ``count`` - 1.
        """
        chosen = check_indices(indices, self.count)
        return replace(self, paths=tuple(self.paths[index] for index in chosen), labels=self.labels[chosen])


def check_labels(labels: np.ndarray, count: int, class_names: Sequence[str]) -> None:
    """Hold ``labels`` to int64 [count], each an index into ``class_names``.

    Raises:
        InvalidValue: they are not.
    """
    if labels.dtype != np.int64 or labels.shape != (count,):
        raise InvalidValue(f"labels are {labels.dtype} {list(labels.shape)}; they must be int64 [{count}]")
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
        raise InvalidValue(f"labels run from {labels.min()} to {labels.max()} for {len(class_names)} class names")


def check_indices(indices: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """``indices`` as int64 [n].

    Raises:
        InvalidValue: one is no integer (a mask is none either) from 0 to ``count`` - 1.
    """
    found = np.asarray(indices)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise InvalidValue(f"indices are {found.dtype} {list(found.shape)}; they must be integers, one for each image")
    if found.size and not 0 <= found.min() <= found.max() < count:
        raise InvalidValue(f"indices run from {found.min()} to {found.max()}; there are {count} images")
    return found.astype(np.int64)


def digest_of(begun: hashlib._Hash, labels: np.ndarray, class_names: Sequence[str]) -> str:
    """The hexadecimal digest of what ``begun`` has seen, then ``labels`` and ``class_names``."""
    begun.update(labels.astype("<i8").tobytes())
    begun.update(repr(tuple(class_names)).encode(errors="surrogateescape"))
    return begun.hexdigest()


def _size_bytes(path: Path) -> int:
    """-1 for a file that is not there: reading it will say so."""
    try:
        return path.stat().st_size
    except OSError:
        return -1
