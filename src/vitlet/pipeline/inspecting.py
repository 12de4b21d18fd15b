"""What int8 does inside a model."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from vitlet import __version__
from vitlet.bundle.manifest import Images
from vitlet.bundle.read import Bundle
from vitlet.data.gather import Wanted, gather
from vitlet.errors import InvalidValue, NoImages
from vitlet.measure.environment import default_threads, environment
from vitlet.measure.operation_times import OperationTimes
from vitlet.pipeline.loading import Model, loaded, read_if_bundle
from vitlet.records import Classifier, Progress, ProgressCallback, no_progress
from vitlet.results import Inspected

NO_IMAGES_TO_INSPECT = "no images were given: name a folder with --data"


def inspect(
    model: Model,
    *,
    data: Sequence[str | Path] = (),
    calibration: Sequence[str | Path] = (),
    images: Sequence[str | Path] = (),
    precision: str = "int8-static",
    random_weights: bool = False,
    limit: int | None = 64,
    threads: int | None = None,
    timed: bool = True,
    out: str | Path | None = None,
    overwrite: bool = False,
    command: str = "",
    progress: ProgressCallback = no_progress,
) -> Inspected:
    """Find what int8 costs the answers, operation by operation, and write a page about it to ``out``, if that is given.

    Every operation is put into simulated int8 alone, over at most ``limit`` images of ``data``; ranges of activations
    are learned from ``calibration``, else from some of ``data`` that are then not answered. What each operation would
    take in float and in int8 is read from ONNX Runtime's profiles (unless ``timed`` is false). Attention is shown over
    ``images``, or over some of ``data``.

    Raises:
        InvalidValue: ``precision`` is not int8-static or int8-dynamic, or ``model`` is a bundle, whose file cannot be
            looked into.
        OutputExists, NotWritable: before the work begins, if ``out`` cannot be written.
        VitletError: the model or the images cannot be had.
    """
    from vitlet.certify.inspect import inspect_classifier, simulated_precision, times_in_float
    from vitlet.whole_file import check_free, write_whole

    simulated, used = simulated_precision(precision), threads or default_threads()
    if out is not None:
        check_free(Path(out), overwrite=overwrite)
    model = read_if_bundle(model)
    if isinstance(model, Bundle):
        origin = model.manifest.reference
        raise InvalidValue(f"{model.path} is a bundle, which cannot be looked into; inspect its origin: {origin}")
    if not data and (model.reference if isinstance(model, Classifier) else model) != "bundled":
        raise NoImages(NO_IMAGES_TO_INSPECT)
    classifier = loaded(model, progress, random_weights)
    wanted = Wanted(data=data, calibration=calibration, limit=limit)
    if classifier.reference == "bundled":
        wanted = wanted.of_bundled()
    with tempfile.TemporaryDirectory(prefix="vitlet-") as folder:
        scratch, spec, labels = Path(folder), classifier.image_spec, classifier.labels
        found = gather(wanted, spec, labels, scratch, calibrated=True, progress=progress)
        shown = gather(Wanted(data=images), spec, labels, scratch / "shown").images
        if found.images is None or found.calibration is None:
            raise NoImages(NO_IMAGES_TO_INSPECT)
        answered = replace(found.images, skipped=(*found.images.skipped, *(shown.skipped if shown else ())))
        inspection = inspect_classifier(
            classifier, answered, found.calibration, shown, precision=simulated, threads=used, progress=progress
        )
        times = OperationTimes({}, reason="not asked for")
        if timed:
            progress(Progress("measure", "operations in ONNX Runtime"))
            times = times_in_float(
                classifier, inspection, answered, found.calibration, scratch, precision=simulated, threads=used
            )
        page = None if out is None else Path(out)
        done = Inspected(classifier.reference, environment(used), answered, inspection, times, page)
        if page is not None:
            write_whole(page, inspection_page(done, command, classifier.random_weights).encode())
        return done


def inspection_page(done: Inspected, command: str, random_weights: bool) -> str:
    """The page about what ``inspect`` found."""
    from vitlet.report.inspection import InspectionData, render_inspection

    data = InspectionData(
        reference=done.reference,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        vitlet_version=__version__,
        environment=done.environment,
        images=Images.of(done.images),
        inspection=done.inspection,
        times=done.times,
        command=command,
        random_weights=random_weights,
    )
    return render_inspection(data)
