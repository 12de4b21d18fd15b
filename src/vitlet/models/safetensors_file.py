"""Reading safetensors files that may be damaged or hostile.

The format is an 8-byte little-endian length, a JSON header of that length, then the tensors
(https://huggingface.co/docs/safetensors). The safetensors library checks that offsets are in
order, within the file and without gap or overlap; what is checked here comes before it allocates.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitlet.errors import ModelNotFound, ModelUnreadable

if TYPE_CHECKING:
    from torch import Tensor

#: A header holds some 100 bytes a tensor and the labels; 32 MiB is far above any model.
LARGEST_HEADER_BYTES = 32 * 1024 * 1024

#: Names that safetensors gives the types that weights come in.
WEIGHT_DTYPES = frozenset({"F64", "F32", "F16", "BF16"})
INDEX_DTYPES = frozenset({"I64", "I32", "I16", "I8", "U8", "BOOL"})


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself: shape and dtype of each tensor, and free text."""

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Read and check the header; no tensor is read.

    Raises:
        ModelNotFound: there is no such file.
        ModelUnreadable: it is no whole safetensors file, or it holds tensors that are no weights.
    """
    from safetensors import SafetensorError, safe_open

    _check_length(path)
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            header = Header(
                shapes={name: tuple(part.get_shape()) for name, part in slices.items()},
                dtypes={name: str(part.get_dtype()) for name, part in slices.items()},
                metadata=dict(file.metadata() or {}),
            )
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise ModelUnreadable(f"{path} is no whole safetensors file ({error}); get it again") from error
    for name, dtype in header.dtypes.items():
        if dtype not in WEIGHT_DTYPES | INDEX_DTYPES:
            raise ModelUnreadable(f"{path}: tensor {name} has type {dtype}; weights must be F16, BF16, F32 or F64")
    return header


def read_tensors(path: Path, names: Collection[str]) -> dict[str, Tensor]:
    """Read these tensors into memory of their own, so that the file may change afterwards.

    Raises:
        ModelUnreadable: one is missing or cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name).clone() for name in names}
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelUnreadable(f"{path} cannot be read ({error}); get it again") from error


def sort_metadata(path: Path) -> None:
    """Bring the free text in the header of a whole file into the order of its keys, in place, so that equal models make
    equal files: the safetensors library writes it in an order that differs from process to process.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        content = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(content) > length:  # nothing may move: the tensors stand behind it
            raise OSError(f"the header of {path} would grow")
        file.seek(8)
        file.write(content.ljust(length))


def _check_length(path: Path) -> None:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
    except FileNotFoundError as error:
        raise ModelNotFound(f"there is no file {path}") from error
    except OSError as error:
        raise ModelUnreadable(f"{path} cannot be read: {error.strerror or error}") from error
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length < 2 or length > size - 8:
        raise ModelUnreadable(f"{path} is no whole safetensors file ({size} bytes); get it again")
    if length > LARGEST_HEADER_BYTES:
        raise ModelUnreadable(f"{path} has a header of {length} bytes; vitlet reads up to {LARGEST_HEADER_BYTES}")
