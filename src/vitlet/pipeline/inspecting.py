"""What int8 does inside a model."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from vitlet import __version__
from vitlet.bundle.manifest import Images
from vitlet.certify.inspection import Sensitivities
from vitlet.data.gather import Wanted, gather
from vitlet.errors import NoImages, Unsupported
from vitlet.measure.environment import default_threads, environment
from vitlet.measure.operation_times import OperationTimes
from vitlet.measure.settings import MeasureSettings
from vitlet.measure.statistics import latency_summary
from vitlet.pipeline.loading import Model, loaded, refuse_bundle
from vitlet.pipeline.measuring import Measured
from vitlet.records import Artifact, Classifier, Progress, ProgressCallback, no_progress
from vitlet.results import Inspected

#: Images that operations are looked into with for a report, the fewest of them, and what that may take.
_LOOKED_INTO, _LEAST, _MOST_MS = 16, 4, 60_000.0
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
    model = refuse_bundle(model, "cannot be looked into; inspect")
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


def looked_into(
    classifier: Classifier, chosen: Artifact, job: Measured, settings: MeasureSettings, progress: ProgressCallback
) -> Sensitivities | None:
    """What quantizing each operation costs, for the report on a ``chosen`` variant in int8; ``None`` for others,
    for people in a hurry (``settings.quick``), and where even a few images would take longer than ``_MOST_MS``.
    """
    name = {"int8-static-bf16": "int8-static"}.get(chosen.precision.name, chosen.precision.name)
    baseline = latency_summary(job.measured[0])
    is_int8 = name in ("int8-static", "int8-dynamic")
    if settings.quick or not is_int8 or job.images is None or baseline is None or classifier.random_weights:
        return None
    from vitlet.certify.sensitivity import sensitivities
    from vitlet.certify.simulation import Simulation
    from vitlet.engines.torch.threads import using_threads

    images = job.images.subset(
        range(min(_LOOKED_INTO, job.images.count)), job.images.pixels_path.with_name("looked-into.npy")
    )
    with using_threads(settings.threads):
        try:
            # The ranges of the very images: nothing is judged by it.
            simulation = Simulation(classifier.module, images.batches(1), dynamic=name == "int8-dynamic")
        except Unsupported:
            return None
        # About half of a run is saved by starting at the operation that is rounded.
        runs = len(simulation.operations) / 2 + 12
        count = int(_MOST_MS / (runs * baseline.p50))
        if count < _LEAST:
            return None
        if count < images.count:
            images = images.subset(range(count), images.pixels_path.with_name("few-looked-into.npy"))
        return sensitivities(simulation, images, progress, precision=name)
