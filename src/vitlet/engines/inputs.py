"""What a session may be opened with and what may go into it, whatever the runtime."""

from __future__ import annotations

import numpy as np

from vitlet.errors import InvalidValue

_MOST_THREADS = 1024


def checked_images(images: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Return ``images`` as a C-contiguous, writable float32 array [batch, 3, height, width], copied
    only where it is not one already.

    Raises:
        InvalidValue: no array, another dtype, another shape, or an empty batch.
    """
    if not isinstance(images, np.ndarray):
        raise InvalidValue(f"images are a {type(images).__name__}; give a float32 numpy array")
    if images.dtype != np.float32:
        raise InvalidValue(f"images have dtype {images.dtype}; the model takes float32")
    if images.shape[1:] != (3, height, width) or images.ndim != 4 or not images.shape[0]:
        given = ", ".join(map(str, images.shape))
        raise InvalidValue(f"images have shape [{given}]; the model takes [1 or more, 3, {height}, {width}]")
    # torch warns of an array it could not write to, such as a slice of a read-only memory map.
    return np.require(images, requirements=["C", "W"])


def checked_threads(threads: int) -> int:
    """Return ``threads``.

    Raises:
        InvalidValue: below 1 or above 1024.
    """
    if not 1 <= threads <= _MOST_THREADS:
        raise InvalidValue(f"threads is {threads}; it must be 1 to {_MOST_THREADS}")
    return threads
