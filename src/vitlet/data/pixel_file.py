"""Write images one by one into a ``.npy`` file whose length is known only at the end."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from vitlet.errors import NotWritable


class PixelWriter:
    """A context that writes uint8 [count, height, width, 3] to ``path``, whole or not at all.

    It goes to ``path`` + ".part" and is renamed when the block ends; an exception in the block (an
    interrupt too) removes it. Plain writes, no memory map: a map that meets a full disk kills the
    process, a write raises.

    Raises:
        NotWritable: the folder cannot be made, or the file not be written: no permission, no space.
    """

    def __init__(self, path: Path, height: int, width: int) -> None:
        self.count = 0
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._image_shape = (height, width, 3)
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the pixels written so far."""
        return self._hash.hexdigest()

    def __enter__(self) -> PixelWriter:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("wb")
            self._write_header(self._file)
        except OSError as error:
            self._discard()
            raise self._refusal(error) from error
        return self

    def append(self, pixels: np.ndarray) -> None:
        """Add one image, uint8 [height, width, 3]."""
        if self._file is None or pixels.shape != self._image_shape or pixels.dtype != np.uint8:
            raise ValueError(f"pixels {pixels.dtype} {pixels.shape} do not fit {self._image_shape}")
        content = np.ascontiguousarray(pixels).tobytes()
        try:
            self._file.write(content)
        except OSError as error:
            raise self._refusal(error) from error
        self._hash.update(content)
        self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is None or kind is not None:
            self._discard()
            return
        try:
            self._file.seek(0)
            self._write_header(self._file)
            self._file.close()
            self._part.replace(self._path)
        except OSError as failure:
            self._discard()
            raise self._refusal(failure) from failure

    def _write_header(self, file: BinaryIO) -> None:
        # numpy pads the header so that the first axis can grow in place: it has always the same length.
        shape = (self.count, *self._image_shape)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})

    def _discard(self) -> None:
        # Closing writes what is left in the buffer to a disk that may still be full, and where the folder
        # could not be made there is nothing to remove; the first error is the one to tell.
        with suppress(OSError):
            if self._file is not None:
                self._file.close()
        self._file = None
        with suppress(OSError):
            self._part.unlink()

    def _refusal(self, error: OSError) -> NotWritable:
        reason = error.strerror or str(error)
        return NotWritable(f"{self._path}: the images cannot be written: {reason}; free space or choose another folder")
