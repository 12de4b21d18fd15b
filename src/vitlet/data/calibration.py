"""Images from which a static quantization learns the ranges of activations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitlet.data.imageset import ImageSet
from vitlet.data.preprocess import normalise
from vitlet.errors import InvalidValue
from vitlet.records import ImageSpec

#: Enough for a ViT's ranges to settle, few enough for the slowest quantizer to end in a minute.
ENOUGH = 128


@dataclass(frozen=True)
class Calibration:
    """Images as they will be fed to the model, read one at a time, so that memory stays bounded.

    ``pixels_path`` is a ``.npy`` file of uint8 [images, height, width, 3], already cropped by ``spec``, of
    which the rows ``indices`` are used; ``names`` say what these are called. Without one, ``random_count``
    standard normal inputs from ``seed`` stand in: enough to measure speed with, not to keep accuracy.
    """

    spec: ImageSpec
    pixels_path: Path | None = None
    indices: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    random_count: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.pixels_path is None) == bool(self.indices) or bool(self.indices) == bool(self.random_count):
            raise InvalidValue("calibration takes rows of a file of pixels, or a number of random inputs")
        if self.names and len(self.names) != len(self.indices):
            raise InvalidValue(f"{len(self.names)} image names for {len(self.indices)} images to calibrate with")

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
        if any(name.startswith("made/") for name in self.names):
            return "calibrated on images that vitlet made, since none were given"
        return "calibrated on random inputs: name images for a usable accuracy" if self.random_count else ""


def calibration_of(images: ImageSet) -> Calibration:
    """Up to ``ENOUGH`` images of a set, spread evenly over it."""
    indices = np.unique(np.linspace(0, images.count - 1, min(ENOUGH, images.count)).astype(int))
    return _of_rows(images, indices.tolist())


def set_aside(images: ImageSet, wanted: int | None) -> tuple[Calibration, ImageSet]:
    """Part a set in two: some images to calibrate with, and the others, which alone are measured.

    What is above ``wanted`` goes to calibration; where there is nothing above it, a quarter of the
    images, but never more than ``ENOUGH``. Fewer than 4 images serve for both, and the note says so.
    """
    spare = images.count - (images.count if wanted is None else wanted)
    count = min(ENOUGH, max(spare, images.count // 4))
    if count == 0:
        note = "; ".join(filter(None, (images.note, "calibrated on the very images that are measured")))
        return calibration_of(images), replace(images, note=note)
    aside = set(np.linspace(0, images.count - 1, count).astype(int).tolist())
    kept = [index for index in range(images.count) if index not in aside]
    measured = images.subset(kept, images.pixels_path.with_name("measured.npy"))
    return _of_rows(images, sorted(aside)), measured


def _of_rows(images: ImageSet, rows: Sequence[int]) -> Calibration:
    return Calibration(images.spec, images.pixels_path, tuple(rows), tuple(images.names[row] for row in rows))
