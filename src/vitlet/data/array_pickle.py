"""Pickles of plain values and arrays of bytes, read without running anything that they name.

A pickle is a program that may call any function. Here it may call three, by the names under which NumPy's own pickles
call them, and these are stand-ins that only keep what they are given: no function of NumPy meets a hostile file.
"""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from vitlet.data.read import read_bytes
from vitlet.errors import UnreadableImage


def read_pickle(path: Path) -> Any:
    """What a pickle holds: dicts, lists, strings, numbers, and arrays as uint8 of their shape. Strings that Python 2
    wrote are decoded as Latin-1.

    Raises:
        UnreadableImage: it is missing or damaged, or names anything else (that is not run).
    """
    content = read_bytes(path, str(path))
    try:
        return _arrays_in(_Reader(io.BytesIO(content), encoding="latin1").load())
    except _Refused as error:
        raise UnreadableImage(f"{path}: {error}; get the data set again") from error
    except Exception as error:  # a damaged pickle makes the reader raise nearly anything
        raise UnreadableImage(f"{path}: is no whole pickle ({type(error).__name__}); get the data set again") from error


class _Refused(Exception):
    """Says what the pickle holds that is not read."""


class _DataType:
    """Stands for ``numpy.dtype``: of uint8 alone."""

    def __init__(self, code: object, *_: object) -> None:
        if code not in ("u1", "|u1"):
            raise _Refused(f"holds an array of {code!r}, and only arrays of bytes are read")

    def __setstate__(self, _: object) -> None:
        """Byte order and alignment, which bytes do not have."""


class _Array:
    """Stands for ``numpy.ndarray``."""

    pixels: np.ndarray

    def __setstate__(self, state: object) -> None:
        match state:
            case (int(), tuple() as shape, _DataType(), is_fortran, (str() | bytes()) as values):
                content = values.encode("latin1") if isinstance(values, str) else values
            case _:
                raise _Refused("holds an array of unknown layout")
        if not all(isinstance(edge, int) and edge >= 0 for edge in shape) or math.prod(shape) != len(content):
            raise _Refused(f"holds an array of shape {list(shape)} with {len(content)} bytes")
        self.pixels = np.frombuffer(content, np.uint8).reshape(shape, order="F" if is_fortran else "C")


def _reconstruct(kind: object, *_: object) -> _Array:
    """Stands for the function by which NumPy begins an array."""
    if kind is not _Array:
        raise _Refused("holds an array of unknown layout")
    return _Array()


_STAND_INS = MappingProxyType(
    {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _DataType,
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,  # before NumPy 2
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    }
)


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in _STAND_INS:
            raise _Refused(f"names {module}.{name}, and vitlet runs no code from a data set")
        return _STAND_INS[module, name]


def _arrays_in(value: Any) -> Any:
    """The same with real arrays; arrays are looked for where data sets have them: as values of the outermost dict."""
    if isinstance(value, dict):
        return {key: entry.pixels if isinstance(entry, _Array) else entry for key, entry in value.items()}
    return value
