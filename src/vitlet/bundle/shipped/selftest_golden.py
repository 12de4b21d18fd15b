"""The golden files of a bundle: images, the exact input that the model must get for each, and the right answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np

from .selftest_files import Files, Refused, is_plain, read_array

_MOST_EDGE, _MOST_CLASSES, _MOST_IMAGES = 8192, 1_000_000, 64


@dataclass(frozen=True)
class Image:
    """An image file and its right input, float32 [3, height, width]; ``row`` is its place in the logits."""

    name: str
    path: Path
    input: np.ndarray
    row: int


@dataclass(frozen=True)
class Golden:
    """What is whole of the golden files. Logits are float32 [rows, classes], ``None`` where their file is damaged or
    there never was one; ``tolerance`` is a relative L2 distance.
    """

    images: tuple[Image, ...]
    logits: Optional[np.ndarray]
    original_logits: Optional[np.ndarray]
    tolerance: float

    @property
    def inputs(self) -> Mapping[int, Image]:
        """One image for each row."""
        found: dict[int, Image] = {}
        for image in self.images:
            found.setdefault(image.row, image)
        return found


def read_golden(files: Files) -> Optional[Golden]:
    """The golden files that are not damaged; ``None`` for a bundle without any.

    Raises:
        Refused: the manifest contradicts itself or the files.
    """
    manifest = files.manifest
    if manifest is None or manifest.get("golden") is None:
        return None
    try:
        return _read(files, manifest)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise Refused(f"the golden files are not what manifest.json says: {error}") from None


def _read(files: Files, manifest: Mapping[str, Any]) -> Golden:
    model, golden = manifest["model"], manifest["golden"]
    height, width = (_number(model[name], name, _MOST_EDGE) for name in ("height", "width"))
    classes = _number(model["classes"], "classes", _MOST_CLASSES)
    entries = golden["images"]
    if not isinstance(entries, list) or not 1 <= len(entries) <= _MOST_IMAGES:
        raise ValueError(f"it must name 1 to {_MOST_IMAGES} golden images")
    rows = max(_number(entry["row"] + 1, "row", _MOST_IMAGES) for entry in entries)
    tolerance = golden["tolerance"]
    if not isinstance(tolerance, (int, float)) or not 0 <= tolerance <= 10:
        raise ValueError(f"tolerance is {tolerance!r}; it must be 0 to 10")

    def array(name: object, shape: tuple[int, ...]) -> Optional[np.ndarray]:
        if not is_plain(name) or name not in files.names:
            raise ValueError(f"{name!r} is none of the bundle's files")
        return None if name in files.damaged else read_array(files.folder, str(name), shape)

    images = []
    for entry in entries:
        name, right = entry["file"], array(entry["input"], (3, height, width))
        if not is_plain(name) or name not in files.names:
            raise ValueError(f"{name!r} is none of the bundle's files")
        if right is not None and name not in files.damaged:
            images.append(Image(name, files.folder / name, right, entry["row"]))
    logits = array(golden["logits"], (rows, classes))
    original = array(golden["original_logits"], (rows, classes)) if golden["original_logits"] else None
    return Golden(tuple(images), logits, original, float(tolerance))


def _number(value: object, name: str, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ValueError(f"{name} is {value!r}; it must be 1 to {most}")
    return value
