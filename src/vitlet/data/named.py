"""The images of a named data set as an ``ImageSet``, prepared like any other images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from vitlet.data.datasets import DATASETS, load_dataset
from vitlet.data.imageset import ImageSet
from vitlet.data.labels import match_labels
from vitlet.data.pixel_file import PixelWriter
from vitlet.data.preprocess import crop_pixels
from vitlet.records import ImageSpec, Progress, ProgressCallback, no_progress


def is_named(arguments: Sequence[str]) -> bool:
    """Whether this is the name of a data set rather than a path."""
    return len(arguments) == 1 and arguments[0] in DATASETS


def load_named(
    name: str,
    spec: ImageSpec,
    labels: Sequence[str],
    directory: Path,
    *,
    split: Literal["train", "test"] = "test",
    limit: int | None = None,
    seed: int = 0,
    progress: ProgressCallback = no_progress,
) -> ImageSet:
    """Crop the images of that split of the data set ``name`` into ``directory`` / "pixels.npy".

    With ``limit`` a random sample, always the same for a ``seed``. ``labels`` are the model's own;
    the data set's class names are matched to them as ``match_labels`` says.

    Raises:
        HubUnreachable, UnreadableImage: the data set cannot be had.
        NotWritable: ``directory`` cannot be written.
    """
    data = load_dataset(name, split)
    match = match_labels(data.class_names, labels)
    chosen = np.arange(data.count)
    if limit is not None and limit < data.count:
        chosen = np.sort(np.random.default_rng(seed).choice(data.count, limit, replace=False))
    found = []
    with PixelWriter(directory / "pixels.npy", spec.height, spec.width) as writer:
        for index in chosen:
            if writer.count % 100 == 0:
                progress(Progress("images", name, writer.count, len(chosen)))
            writer.append(crop_pixels(Image.fromarray(data.pixels[index]).convert("RGB"), spec))
            found.append(match.indices.get(data.class_names[data.labels[index]], -1))
    return ImageSet(
        pixels_path=directory / "pixels.npy",
        spec=spec,
        names=tuple(f"{name}/{split}/{index}" for index in chosen),
        labels=tuple(found),
        note=match.note,
        digest=writer.digest,
    )
