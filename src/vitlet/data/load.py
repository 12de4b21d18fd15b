"""From what a user typed to an ``ImageSet`` on disk: find, decode, crop, label."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from vitlet.data.find import ImageSource, find_images
from vitlet.data.imageset import ImageSet, Skipped
from vitlet.data.labels import match_labels
from vitlet.data.parts import Part, expected_in, none_in, part_of
from vitlet.data.pixel_file import PixelWriter
from vitlet.data.preprocess import crop_pixels
from vitlet.data.read import read_image
from vitlet.errors import EmptyPart, InvalidValue, NoImages, UnreadableImage
from vitlet.records import ImageSpec, Progress, ProgressCallback, no_progress
from vitlet.whole_file import write_whole


def load_images(
    arguments: Sequence[str],
    spec: ImageSpec,
    labels: Sequence[str],
    directory: Path,
    *,
    limit: int | None = None,
    part: Part | None = None,
    keep: int = 0,
    seed: int = 0,
    progress: ProgressCallback = no_progress,
    stdin: BinaryIO | None = None,
) -> ImageSet:
    """Decode and crop the images that ``arguments`` stand for into ``directory`` / "pixels.npy". The first
    ``keep`` files are copied beside it as they came (``ImageSet.encoded``). With ``part`` only those that belong to it.

    Class folders become labels as ``match_labels`` says; ``labels`` are the model's own. With
    ``limit`` at most so many images are taken, evenly over the class folders and always the same
    ones for a ``seed``; a broken one is replaced by the next. Images are held in memory one at a
    time. What could not be read is in ``skipped``, what a person should know of the labels in
    ``note``.

    Raises:
        NoImages: nothing was found, or none of it could be read.
        EmptyPart: none belongs to ``part``.
        UnreadableImage: an argument is no file, folder, glob or address at all.
        InvalidValue: ``limit`` is below 1.
        NotWritable: ``directory`` cannot be written.
    """
    if limit is not None and limit < 1:
        raise InvalidValue(f"limit is {limit}; it must be 1 or more images")
    sources = find_images(arguments, stdin=stdin)
    match = match_labels((source.label_name for source in sources if source.label_name is not None), labels)
    expected = expected_in(part, len(sources))
    wanted = len(sources) if limit is None else min(limit, len(sources))
    if wanted < len(sources):
        sources = evenly(sources, seed)
    names: list[str] = []
    found: list[int] = []
    encoded: list[Path] = []
    skipped: list[Skipped] = []
    with PixelWriter(directory / "pixels.npy", spec.height, spec.width) as writer:
        for source in sources:
            if writer.count == wanted:
                break
            progress(Progress("images", source.name, writer.count, max(writer.count, min(wanted, expected))))
            try:
                content = source.read()
                if part is not None and part_of(content) != part:
                    continue
                pixels = crop_pixels(read_image(content, source.name), spec)
            except UnreadableImage as error:
                skipped.append(Skipped(source.name, str(error).removeprefix(f"{source.name}: ")))
                continue
            writer.append(pixels)
            if len(encoded) < keep:
                encoded.append(directory / f"encoded-{len(encoded)}")
                write_whole(encoded[-1], content)
            names.append(source.name)
            found.append(-1 if source.label_name is None else match.indices.get(source.label_name, -1))
        if not names:
            if part is not None and len(skipped) < len(sources):
                raise EmptyPart(none_in(part, len(sources)))
            raise NoImages(nothing_readable(skipped))
        progress(Progress("images", "", writer.count, writer.count))
    return ImageSet(
        pixels_path=directory / "pixels.npy",
        spec=spec,
        names=tuple(names),
        labels=tuple(found),
        skipped=tuple(skipped),
        note=match.note,
        digest=writer.digest,
        encoded=tuple(encoded),
    )


def evenly(sources: Sequence[ImageSource], seed: int) -> tuple[ImageSource, ...]:
    """The same sources in an order of which every beginning is an even sample over the class folders:
    one from each folder, then a second from each, in an order that ``seed`` alone decides.
    """
    generator = random.Random(seed)
    by_folder: dict[str | None, list[ImageSource]] = {}
    for source in sources:
        by_folder.setdefault(source.label_name, []).append(source)
    folders = list(by_folder.values())
    generator.shuffle(folders)
    for folder in folders:
        generator.shuffle(folder)
    longest = max((len(folder) for folder in folders), default=0)
    return tuple(folder[turn] for turn in range(longest) for folder in folders if turn < len(folder))


def nothing_readable(skipped: Sequence[Skipped]) -> str:
    """The sentence for the case that each image was skipped."""
    shown = "; ".join(f"{entry.name}: {entry.reason}" for entry in skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    if len(skipped) == 1:
        return f"the only image could not be read: {shown}"
    return f"none of the {len(skipped)} images could be read: {shown}{more}"
