"""What an application made of the golden images, held against what the model must get."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from .selftest_drift import Cause, Drift, find_drift
from .selftest_golden import Golden, Image

Prepare = Callable[[str], Any]
"""An application's own function: the path of an image -> array-like [3, height, width] or [1, 3, height, width]."""


class Unusable(Exception):
    """There is no such function or tensor, or it fails; the text says why."""


@dataclass(frozen=True)
class Prepared:
    """What the application gave for an image, float32 [3, height, width]; ``None`` if it is nothing like that, and
    then ``fault`` says what it is. ``layout`` is set where the axes had to be put in order first.
    """

    image: Image
    tensor: Optional[np.ndarray]
    fault: str = ""
    layout: Optional[Cause] = None


def load_function(place: str) -> Prepare:
    """The function that "FILE.py:FUNCTION" names. Its file is run as a module, with its own folder to import from.

    Raises:
        Unusable: there is no such file or function, or the file fails.
    """
    file, colon, name = place.rpartition(":")
    path = Path(file)
    if not colon or not name.isidentifier():
        raise Unusable(f"--preprocess {place} names no function; write FILE.py:FUNCTION")
    if not path.is_file():
        raise Unusable(f"--preprocess {place}: there is no file {file}")
    # Its own siblings may have the names of ours.
    for ours in ("preprocess", "runtime"):
        sys.modules.pop(ours, None)
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location("application_preprocessing", path)
    if spec is None or spec.loader is None:
        raise Unusable(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise Unusable(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise Unusable(f"{file} has no function {name!r}")
    return function


def apply(function: Prepare, images: Iterable[Image]) -> tuple[Prepared, ...]:
    """What the function gives for each image.

    Raises:
        Unusable: it raises.
    """
    found = []
    for image in images:
        try:
            given = function(str(image.path))
        except Exception as error:
            raise Unusable(f"the function fails on {image.name}: {type(error).__name__}: {error}") from error
        found.append(_in_order(image, given))
    return tuple(found)


def read_tensor(path: Path, image: Image) -> tuple[Prepared, ...]:
    """What an application in another language wrote: a ``.npy`` file, or bare float32 values, little-endian.

    Raises:
        Unusable: there is no such file, or it holds another number of values.
    """
    try:
        content = path.read_bytes()
        if content.startswith(b"\x93NUMPY"):
            return (_in_order(image, np.load(path, allow_pickle=False)),)
    except Exception as error:  # numpy raises nearly anything
        raise Unusable(f"--tensor {path} cannot be read: {error}") from None
    if len(content) != 4 * image.input.size:
        shape = list(image.input.shape)
        raise Unusable(
            f"--tensor {path} has {len(content)} bytes; float32 {shape} are {4 * image.input.size} "
            "(write a .npy file if yours has another shape or type)"
        )
    return (_in_order(image, np.frombuffer(content, "<f4").reshape(image.input.shape)),)


def _in_order(image: Image, given: Any) -> Prepared:
    """Whatever the application gave, as float32 [3, height, width]."""
    for step in ("detach", "cpu", "numpy"):  # a tensor of PyTorch or TensorFlow
        given = getattr(given, step)() if callable(getattr(given, step, None)) else given
    if isinstance(given, Mapping):
        given = given.get("pixel_values")  # what a processor of transformers gives
    try:
        array = np.asarray(given)
        values = array.astype(np.float32)
    except (TypeError, ValueError):
        return Prepared(image, None, f"a {type(given).__name__}, which is no array of numbers")
    wanted = image.input.shape
    if values.ndim == 4 and values.shape[0] == 1:
        values = values[0]
    layout = None
    if values.shape == (*wanted[1:], 3) and values.shape != wanted:
        layout = Cause("layout", "[height, width, channels]", "[channels, height, width]")
        values = np.ascontiguousarray(values.transpose(2, 0, 1))
    if values.shape != wanted:
        return Prepared(image, None, f"{array.dtype} {list(array.shape)}; the model takes float32 {[1, *wanted]}")
    if not np.isfinite(values).all():
        return Prepared(image, None, "values that are not finite")
    return Prepared(image, values, "", layout)


def drift_of(prepared: Prepared, spec: Any, read: Callable[..., Any]) -> Optional[Drift]:
    """How that differs from the right input; ``None`` if it does not. ``read`` decodes an image file."""
    image, tensor = prepared.image, prepared.tensor
    if tensor is None:
        return None
    upright, stored = read(image.path), read(image.path, upright=False)
    found = find_drift(tensor, image.input, spec, upright, stored)
    if prepared.layout is None:
        return found
    if found is None:
        return Drift(0.0, 0.0, (prepared.layout,))
    return Drift(found.largest, found.average, (prepared.layout, *found.causes))


def as_batch(tensor: np.ndarray) -> np.ndarray:
    """float32 [3, height, width] -> [1, 3, height, width], contiguous and writable."""
    return np.array(tensor[np.newaxis], np.float32, order="C")


def changed_answers(
    prepared: Iterable[Prepared], golden: Golden, answer: Callable[[np.ndarray], np.ndarray]
) -> list[tuple[str, int, int]]:
    """(image, right class, class with the application's input) where that changes the first class."""
    found = []
    for one in prepared:
        if one.tensor is None or golden.logits is None:
            continue
        right, now = int(golden.logits[one.image.row].argmax()), int(answer(as_batch(one.tensor))[0].argmax())
        if now != right:
            found.append((one.image.name, right, now))
    return found
