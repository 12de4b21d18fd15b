"""What may go into a session, whatever the runtime."""

from __future__ import annotations

import numpy as np

from vitlet.errors import InvalidValue


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
