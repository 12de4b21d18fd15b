"""Images that are nobody's: made by a formula, for who has none to give (``--data none``).

Each is a "dead leaves" picture (Lee, Mumford and Huang, Occlusion models for natural images, IJCV 2001): opaque shapes
of all sizes, their radii by the inverse cube, fall upon each other until nothing shows between. Such pictures have the
edges and the spectrum of photographs, which noise has not; networks can even learn to see from them (arXiv 2106.05963).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitlet.data.imageset import ImageSet
from vitlet.data.pixel_file import PixelWriter
from vitlet.data.splits import Split
from vitlet.records import ImageSpec, Progress, ProgressCallback, no_progress

#: What a user names.
NONE = "none"
#: So many are made where no fewer are asked for.
MOST = 128
NOTE = "made by vitlet (dead leaves), since no images were given: what is true of them need not be of photographs"

_LEAVES = 150
#: Of the shorter edge.
_SMALLEST, _LARGEST = 0.03, 0.5
#: Standard deviations, of 255: how far a leaf's colours are from gray, and the grain at most.
_COLOUR, _GRAIN = 40.0, 10.0
_SEEDS = {"train": 1, "test": 2}


def is_made(arguments: Sequence[str | Path]) -> bool:
    """Whether the user said that there are no images."""
    return [str(one) for one in arguments] == [NONE]


def make_images(
    spec: ImageSpec,
    directory: Path,
    *,
    split: Split = "test",
    limit: int | None = None,
    progress: ProgressCallback = no_progress,
) -> ImageSet:
    """Write at most ``limit`` unlabelled images of the size of ``spec`` into ``directory`` / "pixels.npy", always the
    same; those of one ``split`` are none of the other's.

    Raises:
        NotWritable: ``directory`` cannot be written.
    """
    count = MOST if limit is None else min(limit, MOST)
    with PixelWriter(directory / "pixels.npy", spec.height, spec.width) as writer:
        for number in range(count):
            if number % 16 == 0:
                progress(Progress("images", "making some", number, count))
            writer.append(dead_leaves(np.random.default_rng((_SEEDS[split], number)), spec.height, spec.width))
    names = tuple(f"made/{split}/{number}" for number in range(count))
    return ImageSet(directory / "pixels.npy", spec, names, (-1,) * count, note=NOTE, digest=writer.digest)


def dead_leaves(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """One picture, uint8 [height, width, 3]."""
    edge = min(height, width)
    image = np.empty((height, width, 3), np.float32)
    image[:] = generator.uniform(0, 255) + generator.normal(0, _COLOUR, 3)
    # By the inverse cube between both ends: the inverse of its distribution function.
    ends = (edge * _SMALLEST) ** -2.0, (edge * _LARGEST) ** -2.0
    radii = (ends[0] + generator.uniform(0, 1, _LEAVES) * (ends[1] - ends[0])) ** -0.5
    down, across = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    for radius in radii:
        y, x = generator.uniform(0, height), generator.uniform(0, width)
        longer, angle = radius * generator.uniform(1, 2), generator.uniform(0, np.pi)
        top, left = max(0, int(y - longer)), max(0, int(x - longer))
        part = image[top : int(y + longer) + 2, left : int(x + longer) + 2]
        dy, dx = down[top : top + part.shape[0], None] - y, across[None, left : left + part.shape[1]] - x
        along, beside = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        leaf = (along / longer) ** 2 + (beside / radius) ** 2 <= 1
        colour = generator.uniform(0, 255) + generator.normal(0, _COLOUR, 3)
        part[leaf] = colour + generator.uniform(-128, 128) * along[leaf, None] / longer
    image += generator.normal(0, generator.uniform(0, _GRAIN), (height, width, 1))
    return np.clip(np.round(image), 0, 255).astype(np.uint8)
