"""The images that a measuring process runs: real ones where there are, else seeded random ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vitlet.data.preprocess import normalise
from vitlet.measure.job import Inputs

#: Different images to time with. Enough that a runtime cannot profit from meeting one again, few
#: enough to lie in memory ready-made.
TIMED_IMAGES = 16


def read_inputs(inputs: Inputs, height: int, width: int) -> tuple[int, Iterator[np.ndarray]]:
    """How many inputs there are, and each in turn as float32 [1, 3, height, width]."""
    if inputs.pixels_path is None or inputs.spec is None:
        return inputs.random_count, random_images(inputs.random_count, height, width, inputs.seed)
    pixels = np.load(inputs.pixels_path, mmap_mode="r", allow_pickle=False)
    spec = inputs.spec
    return len(pixels), (_contiguous(normalise(np.asarray(one[np.newaxis]), spec)) for one in pixels)


def timed_images(inputs: Inputs, height: int, width: int) -> list[np.ndarray]:
    """Up to ``TIMED_IMAGES`` inputs spread evenly over all of them, each float32 [1, 3, height, width]."""
    if inputs.pixels_path is None or inputs.spec is None:
        return list(random_images(TIMED_IMAGES, height, width, inputs.seed))
    pixels = np.load(inputs.pixels_path, mmap_mode="r", allow_pickle=False)
    chosen = np.unique(np.linspace(0, len(pixels) - 1, TIMED_IMAGES).astype(int))
    return [_contiguous(normalise(np.asarray(pixels[i][np.newaxis]), inputs.spec)) for i in chosen]


def read_encoded(inputs: Inputs) -> list[bytes]:
    """The image files as they came, to time decoding with."""
    return [path.read_bytes() for path in inputs.encoded]


def random_images(count: int, height: int, width: int, seed: int) -> Iterator[np.ndarray]:
    """``count`` standard normal images from ``seed``, each float32 [1, 3, height, width].

    The same seed gives the same images in every process, so that two variants can be compared.
    """
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield generator.standard_normal((1, 3, height, width), dtype=np.float32)


def _contiguous(images: np.ndarray) -> np.ndarray:
    # A runtime would copy a strided view, and the copy would be counted as inference.
    return np.ascontiguousarray(images)
