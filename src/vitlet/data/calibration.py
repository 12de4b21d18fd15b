"""Images from which a static quantization learns the ranges of activations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitlet.data.preprocess import normalise
from vitlet.errors import InvalidValue
from vitlet.records import ImageSpec

#: Enough for a ViT's ranges to settle, few enough for the slowest quantizer to end in a minute.
ENOUGH = 128


@dataclass(frozen=True)
class Calibration:
    """Images as they will be fed to the model, read one at a time, so that memory stays bounded.

    ``pixels_path`` is a ``.npy`` file of uint8 [images, height, width, 3], already cropped by ``spec``, of
    which the rows ``indices`` are used. Without one, ``random_count`` standard normal inputs from
    ``seed`` stand in: enough to measure speed with, not to keep accuracy.
    """

    spec: ImageSpec
    pixels_path: Path | None = None
    indices: tuple[int, ...] = ()
    random_count: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.pixels_path is None) == bool(self.indices) or bool(self.indices) == bool(self.random_count):
            raise InvalidValue("calibration takes rows of a file of pixels, or a number of random inputs")

    def __len__(self) -> int:
        return len(self.indices) or self.random_count

    def __iter__(self) -> Iterator[np.ndarray]:
        """Each image as C-contiguous float32 [1, 3, height, width]; can be iterated over again."""
        if self.pixels_path is None:
            generator = np.random.default_rng(self.seed)
            for _ in range(self.random_count):
                yield generator.standard_normal((1, 3, self.spec.height, self.spec.width), dtype=np.float32)
            return
        pixels = np.load(self.pixels_path, mmap_mode="r", allow_pickle=False)
        for index in self.indices:
            yield np.ascontiguousarray(normalise(np.asarray(pixels[index : index + 1]), self.spec))

    @property
    def note(self) -> str:
        """What a person should know of an artifact that was calibrated so."""
        return "calibrated on random inputs: name images for a usable accuracy" if self.random_count else ""
