"""All the images that a job needs: those that are measured, and those that static quantization learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vitlet.data.calibration import ENOUGH, Calibration, calibration_of, set_aside
from vitlet.data.imageset import ImageSet
from vitlet.data.load import load_images
from vitlet.data.named import is_named, load_named
from vitlet.data.parts import Part
from vitlet.data.samples import bundled_images
from vitlet.errors import EmptyPart
from vitlet.records import ImageSpec, ProgressCallback, no_progress

#: Image files that are kept as they came, to time decoding with.
_KEPT = 16


@dataclass(frozen=True)
class Wanted:
    """What a user asked for: ``data`` to measure on (folders, files, globs, a named data set), at most ``limit``
    images of it, ``calibration`` to learn ranges from (else some of ``data`` are set aside for it), and at most
    ``certify_limit`` images to certify with.
    """

    data: Sequence[str | Path] = ()
    calibration: Sequence[str | Path] = ()
    limit: int | None = None
    certify_limit: int | None = None

    def of_bundled(self) -> Wanted:
        """The same, on the images that come with vitlet where none are named."""
        return self if self.data else replace(self, data=[bundled_images()])


def gather(
    wanted: Wanted,
    spec: ImageSpec,
    labels: Sequence[str],
    directory: Path,
    *,
    calibrated: bool = False,
    progress: ProgressCallback = no_progress,
) -> tuple[ImageSet | None, Calibration | None]:
    """Decode the images once, into ``directory``; with ``calibrated`` also those to calibrate with.

    No image is both measured and calibrated with, unless the user names it twice. Of a named data
    set, calibration takes training images. Without any images, calibration is on random inputs.

    Raises:
        NoImages, UnreadableImage, NotWritable: as ``load_images`` says.
    """
    data = [str(path) for path in wanted.data]
    calibration = [str(path) for path in wanted.calibration]
    if not calibrated:
        return _load(data, spec, labels, directory, wanted.limit, progress), None
    if calibration:
        apart = directory / "calibration"
        named = _load(calibration, spec, labels, apart, ENOUGH, progress, split="train")
        images = _load(data, spec, labels, directory, wanted.limit, progress)
        return images, None if named is None else calibration_of(named)
    if not data:
        return None, Calibration(spec, random_count=32, seed=1)
    if is_named(data):
        images = load_named(data[0], spec, labels, directory, limit=wanted.limit, progress=progress)
        train = load_named(data[0], spec, labels, directory / "calibration", split="train", limit=ENOUGH)
        return images, calibration_of(train)
    more = None if wanted.limit is None else wanted.limit + ENOUGH
    found = load_images(data, spec, labels, directory, limit=more, keep=_KEPT, progress=progress)
    return set_aside(found, wanted.limit)[::-1]


def gather_parts(
    wanted: Wanted,
    spec: ImageSpec,
    labels: Sequence[str],
    directory: Path,
    *,
    calibrated: bool = False,
    progress: ProgressCallback = no_progress,
) -> tuple[ImageSet | None, Calibration | None, ImageSet | None]:
    """As ``gather``, but measured are only the images to search with, calibrated (unless others are named for it) is
    with those to calibrate with, and the third are those to certify with: the parts of ``vitlet.data.parts``. Where
    there are too few images for that, as ``gather``, with none to certify with.
    """
    data = [str(path) for path in wanted.data]

    def load(part: Part, limit: int | None) -> ImageSet | None:
        return _load(data, spec, labels, directory / part, limit, progress, part=part)

    if data:
        try:
            certify, search = load("certify", wanted.certify_limit), load("search", wanted.limit)
            if not calibrated:
                return search, None, certify
            if wanted.calibration or is_named(data):  # of a named data set there are training images for it
                others = replace(wanted, data=(), calibration=wanted.calibration or data)
                return search, gather(others, spec, labels, directory, calibrated=True)[1], certify
            learned = load("calibrate", ENOUGH)
            return search, None if learned is None else calibration_of(learned), certify
        except EmptyPart:
            pass
    return *gather(wanted, spec, labels, directory, calibrated=calibrated, progress=progress), None


def _load(
    data: Sequence[str],
    spec: ImageSpec,
    labels: Sequence[str],
    directory: Path,
    limit: int | None,
    progress: ProgressCallback,
    split: Literal["train", "test"] = "test",
    part: Part | None = None,
) -> ImageSet | None:
    if not data:
        return None
    if is_named(data):
        return load_named(data[0], spec, labels, directory, split=split, limit=limit, part=part, progress=progress)
    return load_images(data, spec, labels, directory, limit=limit, part=part, keep=_KEPT, progress=progress)
