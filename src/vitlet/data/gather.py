"""All the images that a job needs: those that are measured, and those that static quantization learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vitlet.data.calibration import ENOUGH, Calibration, calibration_of, set_aside
from vitlet.data.imageset import ImageSet
from vitlet.data.load import load_images
from vitlet.data.made import is_made, make_images
from vitlet.data.named import is_named, load_named
from vitlet.data.parts import Part
from vitlet.data.samples import bundled_images
from vitlet.data.splits import Split
from vitlet.data.twins import Pictures, Twins, near_twins, without_copies
from vitlet.errors import EmptyPart
from vitlet.records import ImageSpec, ProgressCallback, no_progress

#: Image files that are kept as they came, to time decoding with.
_KEPT = 16


@dataclass(frozen=True)
class Wanted:
    """What a user asked for: ``data`` to measure on (folders, files, globs, a named data set, or "none": images are
    made, ``vitlet.data.made``), at most ``limit`` images of it, ``calibration`` to learn ranges from (else some of
    ``data`` are set aside for it), ``certify`` to judge by (else a part of ``data``), and at most ``certify_limit``
    images for that.
    """

    data: Sequence[str | Path] = ()
    calibration: Sequence[str | Path] = ()
    limit: int | None = None
    certify: Sequence[str | Path] = ()
    certify_limit: int | None = None

    def of_bundled(self) -> Wanted:
        """The same, on the images that come with vitlet where none are named."""
        return self if self.data else replace(self, data=[bundled_images()])


@dataclass(frozen=True)
class Gathered:
    """``images`` are measured (``None``: random inputs are), ``calibration`` is what static quantization learns from
    (``None``: nothing asks for it), ``to_certify`` are images kept back to judge by, none of which is among the others;
    ``twins`` are those that look like one of them."""

    images: ImageSet | None
    calibration: Calibration | None = None
    to_certify: ImageSet | None = None
    twins: tuple[Twins, ...] = ()


def gather(
    wanted: Wanted,
    spec: ImageSpec,
    labels: Sequence[str],
    directory: Path,
    *,
    calibrated: bool = False,
    progress: ProgressCallback = no_progress,
) -> Gathered:
    """Decode the images once, into ``directory``; with ``calibrated`` also those to calibrate with.

    No image is both measured and calibrated with, unless the user names it twice. Of a named data
    set, calibration takes training images, and of made ones others. Without any images, calibration is on random
    inputs.

    Raises:
        NoImages, UnreadableImage, NotWritable: as ``load_images`` says.
    """
    data = [str(path) for path in wanted.data]
    calibration = [str(path) for path in wanted.calibration]
    if not calibrated:
        return Gathered(_load(data, spec, labels, directory, wanted.limit, progress))
    if calibration:
        apart = directory / "calibration"
        named = _load(calibration, spec, labels, apart, ENOUGH, progress, split="train")
        images = _load(data, spec, labels, directory, wanted.limit, progress)
        return Gathered(images, None if named is None else calibration_of(named))
    if not data:
        return Gathered(None, Calibration(spec, random_count=32, seed=1))
    if is_named(data) or is_made(data):
        images = _load(data, spec, labels, directory, wanted.limit, progress)
        train = _load(data, spec, labels, directory / "calibration", ENOUGH, progress, split="train")
        return Gathered(images, None if train is None else calibration_of(train))
    more = None if wanted.limit is None else wanted.limit + ENOUGH
    found = load_images(data, spec, labels, directory, limit=more, keep=_KEPT, progress=progress)
    learned, images = set_aside(found, wanted.limit)
    return Gathered(images, learned)


def gather_parts(
    wanted: Wanted,
    spec: ImageSpec,
    labels: Sequence[str],
    directory: Path,
    *,
    calibrated: bool = False,
    progress: ProgressCallback = no_progress,
) -> Gathered:
    """As ``gather``, with images ``to_certify`` beside: those that are named for it, or one of the parts of
    ``vitlet.data.parts``; then measured are the images to search with, and calibration (unless others are named for it)
    takes those to calibrate with. Where there are too few images to be parted, as ``gather``; and images that were made
    judge nothing.

    Raises:
        EmptyPart: each of the images to certify with is among the others.
        NoImages, UnreadableImage, NotWritable: as ``load_images`` says.
    """
    try:
        if is_made(wanted.data) and not wanted.certify:
            return gather(wanted, spec, labels, directory, calibrated=calibrated, progress=progress)
        if not wanted.certify and wanted.data:
            found = _parted(wanted, spec, labels, directory, calibrated, progress)
        else:
            named = [str(path) for path in wanted.certify]
            judges = _load(named, spec, labels, directory / "certify", wanted.certify_limit, progress)
            found = gather(wanted, spec, labels, directory, calibrated=calibrated, progress=progress)
            found = replace(found, to_certify=judges)
    except EmptyPart:
        return gather(wanted, spec, labels, directory, calibrated=calibrated, progress=progress)
    if found.to_certify is None:
        return found
    others = [Pictures.of(source) for source in (found.images, found.calibration) if source is not None]
    fresh = without_copies(found.to_certify, others)
    return replace(found, to_certify=fresh, twins=near_twins(fresh, others))


def _parted(
    wanted: Wanted,
    spec: ImageSpec,
    labels: Sequence[str],
    directory: Path,
    calibrated: bool,
    progress: ProgressCallback,
) -> Gathered:
    data = [str(path) for path in wanted.data]

    def load(part: Part, limit: int | None) -> ImageSet | None:
        return _load(data, spec, labels, directory / part, limit, progress, part=part)

    certify, search = load("certify", wanted.certify_limit), load("search", wanted.limit)
    if not calibrated:
        return Gathered(search, None, certify)
    if wanted.calibration or is_named(data):  # of a named data set there are training images for it
        others = replace(wanted, data=(), calibration=wanted.calibration or data)
        learned = gather(others, spec, labels, directory, calibrated=True).calibration
        return Gathered(search, learned, certify)
    rest = load("calibrate", ENOUGH)
    return Gathered(search, None if rest is None else calibration_of(rest), certify)


def _load(
    data: Sequence[str],
    spec: ImageSpec,
    labels: Sequence[str],
    directory: Path,
    limit: int | None,
    progress: ProgressCallback,
    split: Split = "test",
    part: Part | None = None,
) -> ImageSet | None:
    if not data:
        return None
    if is_made(data):
        return make_images(spec, directory, split=split, limit=limit, progress=progress)
    if is_named(data):
        return load_named(data[0], spec, labels, directory, split=split, limit=limit, part=part, progress=progress)
    return load_images(data, spec, labels, directory, limit=limit, part=part, keep=_KEPT, progress=progress)
