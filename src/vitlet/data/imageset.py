"""Images as the engines get them: decoded, resized and cropped once, kept as bytes on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitlet.data.pixel_file import PixelWriter
from vitlet.data.preprocess import normalise
from vitlet.errors import InvalidValue
from vitlet.records import ImageSpec


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ImageSet:
    """``count`` images in a ``.npy`` file of uint8 [count, height, width, 3] (RGB, already resized
    and cropped by ``spec``), so that a measuring process can map it without decoding again.

    ``names`` tell where each came from; ``labels`` are class indices, -1 where unknown. ``note``
    says what a person should know of the labels ("2 of the 7 class folders ..."), mostly nothing.
    ``encoded`` are up to 16 of the image files as they came, copied, to time decoding with; none where
    there were no files. ``digest`` is the SHA-256 of the pixels: equal digests, equal images; empty if not computed.
    """

    pixels_path: Path
    spec: ImageSpec
    names: tuple[str, ...]
    labels: tuple[int, ...]
    skipped: tuple[Skipped, ...] = ()
    note: str = ""
    digest: str = ""
    encoded: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if len(self.names) != len(self.labels):
            raise InvalidValue(f"{len(self.names)} image names for {len(self.labels)} labels")

    @property
    def count(self) -> int:
        return len(self.names)

    @property
    def labelled(self) -> int:
        """How many images have a label."""
        return sum(label >= 0 for label in self.labels)

    def subset(self, rows: Sequence[int], path: Path) -> ImageSet:
        """The images of these rows, their pixels copied to ``path``; ``skipped``, ``note`` and ``encoded`` stay.

        Raises:
            NotWritable: there is no room for them.
        """
        pixels = np.load(self.pixels_path, mmap_mode="r", allow_pickle=False)
        with PixelWriter(path, self.spec.height, self.spec.width) as writer:
            for row in rows:
                writer.append(np.asarray(pixels[row]))
        names, labels = tuple(self.names[row] for row in rows), tuple(self.labels[row] for row in rows)
        return replace(self, pixels_path=path, names=names, labels=labels, digest=writer.digest)

    def batches(self, size: int = 1) -> Iterator[np.ndarray]:
        """Yield the images, normalised, as float32 [up to size, 3, height, width]."""
        pixels = np.load(self.pixels_path, mmap_mode="r", allow_pickle=False)
        for start in range(0, self.count, size):
            yield normalise(np.asarray(pixels[start : start + size]), self.spec)
