"""Labelled images in the rows of a Hugging Face data set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from vitlet.data.labelled import check_indices, check_labels, digest_of
from vitlet.data.read import read_bytes, read_image
from vitlet.errors import InvalidValue, UnreadableImage

if TYPE_CHECKING:
    import PIL.Image


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Images in a data set of the package ``datasets``, with their classes.

    ``table`` is a ``datasets.Dataset`` that gives images undecoded: its rows have the bytes or the path of a file
    under ``column``. ``rows``: int64 [count], those of its rows that belong to this set. ``labels``: int64 [count],
    indices into ``class_names``. ``title`` is what messages call the data set, ``fingerprint`` what ``datasets``
    knows its content by. ``digest`` is of fingerprint, rows, labels and class names.

    Raises:
        InvalidValue: rows or labels of another shape or dtype, or a label that has no class name.
    """

    table: Any
    column: str
    rows: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    title: str
    fingerprint: str

    def __post_init__(self) -> None:
        if self.rows.dtype != np.int64 or self.rows.ndim != 1:
            raise InvalidValue(f"rows are {self.rows.dtype} {list(self.rows.shape)}; they must be int64 [count]")
        check_labels(self.labels, len(self.rows), self.class_names)

    @property
    def count(self) -> int:
        return len(self.rows)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of fingerprint, rows, labels and class names; no image is read."""
        found = hashlib.sha256(f"{self.fingerprint}\0".encode())
        found.update(self.rows.astype("<i8").tobytes())
        return digest_of(found, self.labels, self.class_names)

    def name(self, index: int) -> str:
        """Its row counts from 0 in the whole data set, also in a subset."""
        return f"{self.title}, row {self.rows[index]}"

    def read(self, index: int) -> PIL.Image.Image:
        """That image in mode RGB, upright.

        Raises:
            UnreadableImage: it is missing or broken; the message names it.
        """
        return read_image(self.content(index), self.name(index))

    def content(self, index: int) -> bytes:
        """The image file that the row holds, or names.

        Raises:
            UnreadableImage: there is none; the message names the row.
        """
        name = self.name(index)
        cell = self.table[int(self.rows[index])][self.column] or {}
        content: bytes | None = cell.get("bytes")
        if content is not None:
            return content
        if cell.get("path") is None:
            raise UnreadableImage(f"{name}: holds no image")
        return read_bytes(Path(cell["path"]), name)

    def subset(self, indices: Sequence[int] | np.ndarray) -> Self:
        """These images, in this order.

        Raises:
            InvalidValue: an index is no integer from 0 to ``count`` - 1.
        """
        chosen = check_indices(indices, self.count)
        return replace(self, rows=self.rows[chosen], labels=self.labels[chosen])
