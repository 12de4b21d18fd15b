"""The images of a named data set as an ``ImageSet``, prepared like any other images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vitlet.data.datasets import is_dataset_name, load_dataset
from vitlet.data.imageset import ImageSet, Skipped
from vitlet.data.labels import match_classes
from vitlet.data.load import nothing_readable
from vitlet.data.parts import Part, expected_in, none_in, part_of
from vitlet.data.pixel_file import PixelWriter
from vitlet.data.preprocess import crop_pixels
from vitlet.data.splits import Split
from vitlet.errors import EmptyPart, InvalidValue, NoImages, UnreadableImage
from vitlet.records import ImageSpec, Progress, ProgressCallback, no_progress


def is_named(arguments: Sequence[str]) -> bool:
    """Whether this is the name of a data set rather than a path."""
    return len(arguments) == 1 and is_dataset_name(arguments[0])


def load_named(
    name: str,
    spec: ImageSpec,
    labels: Sequence[str],
    directory: Path,
    *,
    split: Split = "test",
    limit: int | None = None,
    part: Part | None = None,
    seed: int = 0,
    progress: ProgressCallback = no_progress,
) -> ImageSet:
    """Crop the images of that split of the data set ``name`` into ``directory`` / "pixels.npy".

    With ``limit`` a random sample, always the same for a ``seed``; a broken image is replaced by another. With ``part``
    only images that belong to it. What could not be read is in ``skipped``. ``labels`` are the model's own; the data
    set's class names are matched to them as ``match_classes`` says.

    Raises:
        InvalidValue: no such data set, or ``limit`` is below 1.
        NoImages: none of the images could be read.
        EmptyPart: none belongs to ``part``.
        HubUnreachable, UnreadableImage, Unsupported: the data set cannot be had, as ``load_dataset`` says.
        NotWritable: ``directory`` cannot be written.
    """
    if limit is not None and limit < 1:
        raise InvalidValue(f"limit is {limit}; it must be 1 or more images")
    data = load_dataset(name, split)
    match = match_classes(data.class_names, labels)
    wanted = data.count if limit is None else min(limit, data.count)
    expected = expected_in(part, data.count)
    taken: list[int] = []
    skipped: list[Skipped] = []
    with PixelWriter(directory / "pixels.npy", spec.height, spec.width) as writer:
        for index in _order(data.count, wanted, seed):
            if writer.count == wanted:
                break
            if writer.count % 100 == 0:
                progress(Progress("images", name, writer.count, max(writer.count, min(wanted, expected))))
            try:
                if part is not None and part_of(data.content(index)) != part:
                    continue
                pixels = crop_pixels(data.read(index), spec)
            except UnreadableImage as error:
                skipped.append(Skipped(data.name(index), str(error).removeprefix(f"{data.name(index)}: ")))
                continue
            writer.append(pixels)
            taken.append(index)
        if not taken:
            if part is not None and len(skipped) < data.count:
                raise EmptyPart(none_in(part, data.count))
            raise NoImages(nothing_readable(skipped) if skipped else f"{name} has no images to {split} with")
    return ImageSet(
        pixels_path=directory / "pixels.npy",
        spec=spec,
        names=tuple(f"{name}/{split}/{index}" for index in taken),
        labels=tuple(match.indices[data.labels[index]] for index in taken),
        skipped=tuple(skipped),
        note=match.note,
        digest=writer.digest,
    )


def _order(count: int, wanted: int, seed: int) -> Iterator[int]:
    """The sample in ascending order, then all others at random, to replace what is broken."""
    generator = np.random.default_rng(seed)
    chosen = np.arange(count) if wanted == count else np.sort(generator.choice(count, wanted, replace=False))
    yield from chosen.tolist()
    yield from generator.permutation(np.setdiff1d(np.arange(count), chosen)).tolist()
