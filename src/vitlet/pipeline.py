"""The flow, one readable function for each thing a user does. With ``records`` it is the public API.

Every function raises only ``vitlet.errors.VitletError``s, each of one sentence; ``progress`` is a
callback that is told how far a long job is. Nothing is written outside ``out``, but for what ``compress``
needs to go on after an interruption (beside ``out``), the folder ``looks`` that a caller names, and a temporary
folder that is removed at the end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitlet.bundle.difference import differences
from vitlet.bundle.golden import FEW_IMAGES, check_count, with_golden
from vitlet.bundle.read import Bundle, read_bundle
from vitlet.bundle.write import check_writable, write_bundle
from vitlet.certify.journal import open_journal, state_folder
from vitlet.certify.verdict import check_slowdown, judge_speed
from vitlet.data.gather import Wanted, gather
from vitlet.data.made import is_made
from vitlet.data.samples import bundled_images
from vitlet.engines import engine, engines
from vitlet.engines.variants import calibrates, export_one, variants
from vitlet.errors import ImageError, InvalidValue, MeasurementFailed, NoImages, OverBudget, Unsupported
from vitlet.measure.budget import NO_BUDGET, Budget
from vitlet.measure.damage import changed_images, class_results
from vitlet.measure.environment import default_threads, environment
from vitlet.measure.gates import own_fault
from vitlet.measure.operation_times import OperationTimes
from vitlet.measure.run import MeasureSettings, measure
from vitlet.measure.run import evaluate as measure_accuracy
from vitlet.measure.statistics import noise_floor, speedup
from vitlet.measure.verdict import Limits
from vitlet.records import (
    Artifact,
    Classifier,
    Device,
    Environment,
    Measurement,
    Progress,
    ProgressCallback,
    no_progress,
)
from vitlet.results import Answer, Bench, Compressed, Evaluation, Inspected, Prediction, Regression, Verification
from vitlet.stages import (
    Model,
    Promise,
    bundle_teacher,
    certified,
    compared,
    deployable,
    export_and_measure,
    exported_for_evaluation,
    held_out,
    inspection_page,
    loaded,
    looked_into,
    manifest_of,
    read_if_bundle,
    searched,
)

if TYPE_CHECKING:
    from vitlet.distill.job import DistillResult, Settings
    from vitlet.distill.recipe import Recipe
    from vitlet.distill.teacher import Teacher

NO_IMAGES = (
    "no images were given: name a folder with --data, or say --data none to do without (then nothing is said about "
    "accuracy)"
)
NO_IMAGES_TO_INSPECT = "no images were given: name a folder with --data"


def load(
    reference: str | Path,
    *,
    random_weights: bool = False,
    seed: int = 0,
    image_size: int | None = None,
    progress: ProgressCallback = no_progress,
) -> Classifier:
    """Load a classifier by reference: ``timm:NAME`` or just ``NAME``, ``hf:owner/name``,
    ``deit:NAME``, a checkpoint file, a Hugging Face folder, or ``bundled``.

    ``random_weights`` gives the architecture without a download, seeded by ``seed``;
    ``image_size`` (pixels, square) interpolates the positions to another resolution.

    Raises:
        ModelNotFound, ModelUnreadable, HubUnreachable: the model cannot be had.
    """
    from vitlet.models.reference import load as load_reference

    return load_reference(
        str(reference), random_weights=random_weights, seed=seed, image_size=image_size, progress=progress
    )


def export(
    classifier: Classifier,
    *,
    engine: str,
    precision: str,
    out: str | Path,
    calibration: Sequence[str | Path] = (),
    device: Device = "cpu",
) -> Artifact:
    """Write one variant to ``out`` (the engine adds its suffix) and return it.

    ``calibration`` are images for a precision that learns its ranges from some (else random inputs).

    Raises:
        InvalidValue: no such engine or precision.
        Unsupported: the two do not go together on this machine.
        NotWritable: the file cannot be written.
    """
    (variant,) = variants([engine], [precision])
    with tempfile.TemporaryDirectory(prefix="vitlet-") as scratch:
        if not calibration and classifier.reference == "bundled":
            calibration = [bundled_images()]
        wanted, calibrated = Wanted(calibration=calibration), calibrates([variant])
        spec, labels = classifier.image_spec, classifier.labels
        found = gather(wanted, spec, labels, Path(scratch), calibrated=calibrated)
        return export_one(classifier, variant, Path(out), calibration=found.calibration, device=device)


def classify(
    model: Model, images: Sequence[str | Path], *, top: int = 5, threads: int | None = None
) -> Iterator[Prediction]:
    """Classify paths, folders, globs, ``-`` (standard input) and http(s) addresses, in order, one
    ``Prediction`` at a time. A broken image is a prediction without answers.

    Raises:
        NoImages: nothing was found where an argument pointed.
        BundleInvalid, ModelError: the model cannot be had.
    """
    from vitlet.data.find import find_images
    from vitlet.data.preprocess import preprocess
    from vitlet.data.read import read_image

    if top < 1:
        raise InvalidValue(f"top is {top}; ask for at least 1 answer")
    sources = find_images([str(image) for image in images])
    with deployable(model) as served:
        session = engine(served.artifact.engine).open(served.artifact, threads=threads or default_threads())
        try:
            for source in sources:
                try:
                    pixels = preprocess(read_image(source.read(), source.name), served.image_spec)
                except ImageError as error:
                    yield Prediction(source.name, (), str(error))
                    continue
                logits = session.run(pixels[np.newaxis])[0].astype(np.float64)
                shares = np.exp(logits - logits.max())
                shares /= shares.sum()
                best = np.argsort(-shares, kind="stable")[:top]
                answers = tuple(Answer(served.labels[i], int(i), float(shares[i])) for i in best)
                yield Prediction(source.name, answers)
        finally:
            session.close()


def bench(
    model: Model,
    *,
    data: Sequence[str | Path] = (),
    calibration: Sequence[str | Path] = (),
    random_weights: bool = False,
    settings: MeasureSettings | None = None,
    engine_names: Sequence[str] = (),
    precision_names: Sequence[str] = (),
    device: Device = "cpu",
    limit: int | None = 500,
    max_drop: float = 0.01,
    min_agreement: float = 0.98,
    progress: ProgressCallback = no_progress,
) -> Bench:
    """Export every variant of a model that this machine can run, and measure them side by side;
    of a bundle, measure the artifact it holds.

    ``data`` are folders, files or globs; without them random inputs are used and no accuracy is
    told. Static quantization learns from ``calibration``, else from some of ``data`` that are then not
    measured. The recommended variant may lose ``max_drop`` (0..1) of accuracy; without labels it
    must give the same answer on ``min_agreement`` (0..1) of the images.

    Raises:
        VitletError: the model or the images cannot be had, or no variant could be measured.
    """
    settings, limits = settings or MeasureSettings(), Limits(min_agreement, max_drop)
    pairs, wanted = variants(engine_names, precision_names), Wanted(data, calibration, limit)
    model = read_if_bundle(model)
    with tempfile.TemporaryDirectory(prefix="vitlet-") as scratch:
        if isinstance(model, Bundle):
            manifest = model.manifest
            images = gather(wanted, manifest.image_spec, manifest.labels, Path(scratch), progress=progress).images
            measured = measure([model.artifact], images, settings, progress)
            return compared(str(model.path), measured, images, settings, limits)
        classifier = loaded(model, progress, random_weights)
        job = export_and_measure(classifier, pairs, wanted, settings, device, Path(scratch), progress)
        return compared(classifier.reference, job.measured, job.images, settings, limits, classifier.random_weights)


def compress(
    model: str | Path | Classifier,
    *,
    out: str | Path,
    data: Sequence[str | Path] = (),
    calibration: Sequence[str | Path] = (),
    random_weights: bool = False,
    settings: MeasureSettings | None = None,
    engine_names: Sequence[str] = (),
    precision_names: Sequence[str] = (),
    device: Device = "cpu",
    certify_data: Sequence[str | Path] = (),
    limit: int | None = 500,
    certify_limit: int | None = 5000,
    max_drop: float | None = None,
    min_agreement: float = 0.98,
    budget: Budget = NO_BUDGET,
    time_limit_s: float | None = None,
    exhaustive: bool = False,
    confidence: float = 0.95,
    looks: Path | None = None,
    golden_images: int = FEW_IMAGES,
    overwrite: bool = False,
    check_source: bool = True,
    command: str = "",
    progress: ProgressCallback = no_progress,
) -> Compressed:
    """Do the whole job: load, check against the source library, search among the variants (``vitlet.certify.search``),
    and write a bundle with the fastest that keeps its accuracy to within ``max_drop`` (0..1; 0.01 if none is given)
    or, without labels, the same answer on ``min_agreement`` (0..1) of the images, and keeps to the ``budget``.

    With a ``time_limit_s`` the search tries what promises most and then makes do with it; ``exhaustive`` measures every
    variant instead, however unpromising. The images are parted (``vitlet.data.parts``): some to calibrate static
    quantization with (unless ``calibration`` names others), at most ``limit`` to choose by, and at most
    ``certify_limit`` (of ``certify_data``, if that is named) by which the chosen variant alone is judged: how much
    accuracy it may have lost, with ``confidence``, and whether that is within ``max_drop``, if one is given. Too few
    images to be parted serve for all but that; in the place of ``["none"]`` some are made (``vitlet.data.made``), and
    they do, too. In the folder
    ``looks`` it is remembered which images judged what, for whoever tries until one passes; ``None``: nowhere.
    What the search finds is kept in ``out`` + ".search" until the bundle is written: another call goes on from there.
    The bundle tests itself with a test card and ``golden_images`` of the images that were measured, which go into it;
    unless that is 0, its report shows small pictures of some whose answer changed.

    Raises:
        InvalidValue: ``max_drop``, ``confidence`` or ``golden_images`` is out of its range.
        OutputExists, NotWritable: before the work begins, if ``out`` cannot be written.
        ParityFailed: vitlet's path gives other results than the source library
            (``check_source=False`` goes on all the same).
        OverBudget: nothing keeps to the budget, so nothing is written.
        VitletError: the model or the images cannot be had.
    """
    promise = Promise(max_drop, confidence, looks)
    check_count(golden_images)
    if max_drop is not None and is_made([str(path) for path in data]) and not certify_data:
        raise InvalidValue("without images nothing can be said about a drop of accuracy; leave out --max-drop")
    settings = settings or MeasureSettings()
    limits = Limits(min_agreement, 0.01 if max_drop is None else max_drop, budget)
    pairs = variants(engine_names, precision_names)
    wanted = Wanted(data, calibration, limit, certify_data, certify_limit)
    target = Path(out)
    check_writable(target, overwrite=overwrite)
    if not data and not random_weights and isinstance(model, str | Path) and str(model) != "bundled":
        raise NoImages(NO_IMAGES)  # before a download rather than after it
    classifier = loaded(model, progress, random_weights)
    if not data and not classifier.random_weights and classifier.reference != "bundled":
        raise NoImages(NO_IMAGES)
    parity = None
    if check_source:
        from vitlet.models.agreement import require_agreement

        progress(Progress("check", f"against {classifier.library}"))
        parity = require_agreement(classifier, data)
    with tempfile.TemporaryDirectory(prefix="vitlet-") as scratch, open_journal(state_folder(target)) as journal:
        job = searched(
            classifier,
            pairs,
            wanted,
            limits,
            settings,
            device,
            time_limit_s,
            Path(scratch),
            journal,
            progress,
            exhaustive=exhaustive,
        )
        found = compared(
            classifier.reference, job.measured, job.images, settings, limits, classifier.random_weights, parity
        )
        if found.comparison.excess:
            late = f"; the time limit came before {job.untried} variants were tried" if job.untried else ""
            raise OverBudget(found.comparison.sentences[0].removesuffix(".") + late, found)
        chosen = job.exported[found.comparison.best]
        if not isinstance(chosen, Artifact):  # compare() only ever recommends a row that was measured
            raise Unsupported(f"no variant of {classifier.reference} could be exported and measured here")
        comparison, threads = found.comparison, settings.threads
        best, baseline = comparison.best, comparison.baseline
        certificate, changed = certified(
            job, best, baseline, promise, classifier.labels, threads, Path(scratch), progress
        )
        layers = looked_into(classifier, chosen, job, settings, progress)
        progress(Progress("write", str(target)))
        manifest = manifest_of(
            classifier, chosen, found, settings, limits, command, certificate, job.to_certify, job.twins
        )
        from vitlet.report import ReportData, render_report
        from vitlet.report.model_card import NAME as MODEL_CARD
        from vitlet.report.model_card import render_model_card

        manifest, parts = with_golden(manifest, job.exported, job.images, golden_images, Path(scratch), progress)
        pages: dict[str, str | bytes] = {
            # Whoever keeps images out of the bundle keeps them out of the report, too.
            "report.html": render_report(ReportData.of(manifest, changed if golden_images else (), layers)),
            MODEL_CARD: render_model_card(manifest),
            **parts,
        }
        bundle = write_bundle(target, manifest, chosen, pages, overwrite=overwrite)
        return Compressed(bundle, found, certificate)


def evaluate(
    model: Model,
    *,
    data: Sequence[str | Path] = (),
    calibration: Sequence[str | Path] = (),
    engine_name: str = "torch",
    precision_name: str = "fp32",
    against: Model | None = None,
    max_drop: float | None = None,
    confidence: float = 0.95,
    looks: Path | None = None,
    threads: int | None = None,
    limit: int | None = None,
    progress: ProgressCallback = no_progress,
) -> Evaluation:
    """Measure the accuracy of one exported file over labelled images, through its own runtime.

    A bundle is judged by the artifact it holds; any other model is exported first, as fp32 torch
    unless told otherwise. ``data`` is a folder with a sub-folder for each class, or a named data set.
    Its answers are also compared, image by image, with those of ``against``: another model or
    bundle; without one, with the model's own in fp32 torch, where it is at hand. How much accuracy may have
    been lost is bounded with ``confidence`` and, if there is one, held against ``max_drop`` (0..1); the images should
    be such as had no part in making or choosing the model. ``looks`` as in ``compress``.

    Raises:
        NoImages: no image; or none whose folder names a class of the model, and nothing to compare answers with.
        InvalidValue: ``against`` takes other images or has other classes, there is nothing to hold against
            ``max_drop``, or this or ``confidence`` is out of its range.
    """
    promise = Promise(max_drop, confidence, looks)
    (variant,) = variants([engine_name], [precision_name])
    used = threads or default_threads()
    model, other = read_if_bundle(model), None if against is None else read_if_bundle(against)
    with tempfile.TemporaryDirectory(prefix="vitlet-") as scratch:
        own = model if isinstance(model, Bundle) else loaded(model, progress)
        wanted = Wanted(data, calibration, limit)
        found = exported_for_evaluation(own, variant, wanted, other, Path(scratch), progress)
        if found.standard is None and max_drop is not None:
            raise InvalidValue("there is nothing to compare the answers with; name the original model with --against")
        reference, standard_logits = None, Path(scratch) / "standard.npy"
        if found.standard is not None and found.standard_images is not None:
            measure_accuracy(found.standard, found.standard_images, used, progress, logits_path=standard_logits)
            reference = np.load(standard_logits, mmap_mode="r", allow_pickle=False)
        path = Path(scratch) / "logits.npy"
        row = measure_accuracy(
            found.artifact, found.images, used, progress, reference_logits=reference, logits_path=path
        )
        logits = np.load(path, mmap_mode="r", allow_pickle=False)
        truth = found.images.labels
        return Evaluation(
            found.reference,
            environment(used),
            row,
            found.images,
            labels=found.labels,
            classes=class_results(logits, truth, reference),
            changed=() if reference is None else changed_images(logits, truth, reference),
            standard=found.standard_name,
            # Another model's logits are no measure of whether this is the same one.
            fault=own_fault(row) if against is None else "",
            certificate=None if reference is None else promise.judge(found.images, logits, reference),
        )


def compare(
    old: str | Path | Bundle,
    new: str | Path | Bundle,
    *,
    data: Sequence[str | Path] = (),
    max_drop: float | None = None,
    max_slower: float | None = None,
    confidence: float = 0.95,
    looks: Path | None = None,
    settings: MeasureSettings | None = None,
    limit: int | None = None,
    progress: ProgressCallback = no_progress,
) -> Regression:
    """Hold a new bundle against an older one: speed, memory and size of both, measured side by side; with ``data`` the
    accuracy of the new one, and how much of it may have been lost, as ``evaluate`` says.

    ``max_slower`` (0.1 is 10 % more time for an image) asks for a verdict on speed, ``max_drop`` for one on accuracy.

    Raises:
        InvalidValue: one of them is no bundle, they have other classes, there are no images for ``max_drop``, or a
            limit is out of its range.
        MeasurementFailed: one of the two cannot be run here.
    """
    Promise(max_drop, confidence)
    if max_drop is not None and not data:
        raise InvalidValue(
            "without images there is no verdict on accuracy; name some with --data, or leave out --max-drop"
        )
    if max_slower is not None:
        check_slowdown(max_slower)  # before the measuring rather than after it
    bundles = [one if isinstance(one, Bundle) else read_bundle(Path(one)) for one in (old, new)]
    before, after = (one.manifest for one in bundles)
    if before.labels != after.labels:
        raise InvalidValue(f"{bundles[1].path} has other classes than {bundles[0].path}, so they cannot be compared")
    settings = settings or MeasureSettings(visits=8)
    first, second = measure([one.artifact for one in bundles], None, settings, progress)
    for row in (first, second):
        if row.status != "ok":
            raise MeasurementFailed(f"{row.engine} {row.precision} cannot be measured here: {row.reason}")
    speed = speedup(first, second, noise=noise_floor([first, second]))
    found = None
    if data:
        found = evaluate(
            bundles[1],
            data=data,
            against=bundles[0],
            max_drop=max_drop,
            confidence=confidence,
            looks=looks,
            threads=settings.threads,
            limit=limit,
            progress=progress,
        )
    return Regression(
        environment(settings.threads),
        (first, second),
        speed,
        None if max_slower is None else judge_speed(speed, max_slower),
        found,
        differences(before, after),
    )


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


def distill(
    data: str,
    out: str | Path,
    *,
    recipe: Recipe | str = "quick",
    settings: Settings | None = None,
    progress: ProgressCallback = no_progress,
) -> DistillResult:
    """Let a teacher teach a small ViT and write it to ``out``, a ``.safetensors`` file.

    ``data`` is a data set by name (``torchvision:FashionMNIST``, ``hf:owner/name``) or a folder of class folders;
    ``recipe`` one of vitlet's by name, a TOML file, or a ``vitlet.distill.recipe.Recipe``; the teacher may
    also be a bundle. Errors are those of ``vitlet.distill.job.distill``.
    """
    from vitlet.distill.job import distill as train
    from vitlet.distill.recipe_file import load_recipe
    from vitlet.distill.teacher import load_teacher

    def find_teacher(reference: str) -> Teacher:
        found = read_if_bundle(reference)
        return bundle_teacher(found) if isinstance(found, Bundle) else load_teacher(reference, progress=progress)

    chosen = load_recipe(recipe) if isinstance(recipe, str) else recipe
    return train(data, Path(out), chosen, settings, find_teacher=find_teacher, progress=progress)


def compress_student(
    done: DistillResult,
    data: str,
    out: str | Path,
    data_root: Path | None = None,
    **options: Any,
) -> Compressed:
    """``compress`` what ``distill`` made, on the test images of the ``data`` that it was trained on; ``options`` and
    errors as ``compress``.
    """
    with held_out(data, data_root) as (images, calibration):
        return compress(str(done.path), out=out, data=images, calibration=calibration, **options)


def verify(
    bundle: str | Path,
    *,
    preprocess_with: str = "",
    tensor: Path | None = None,
    tensor_of: str = "",
    threads: int | None = None,
    timed: bool = True,
    max_latency_ms: float | None = None,
) -> Verification:
    """Test a bundle on this machine against its golden files, as ``python BUNDLE/selftest.py`` does without vitlet.

    Arguments and errors as ``vitlet.bundle.verify.verify_bundle``; ``max_latency_ms`` 0 is the certified latency.
    """
    from vitlet.bundle.verify import verify_bundle

    report = verify_bundle(
        Path(bundle),
        preprocess_with=preprocess_with,
        tensor=tensor,
        tensor_of=tensor_of,
        threads=threads,
        timed=timed,
        most_ms=max_latency_ms,
    )
    is_whole = all(finding.outcome == "ok" for finding in report.findings if finding.check == "files")
    certificate = read_bundle(Path(bundle)).manifest.certificate if is_whole else None
    return Verification(report, environment(threads or default_threads()), certificate)


def doctor(threads: int | None = None) -> tuple[Environment, tuple[Measurement, ...]]:
    """What this machine is, and which variants it can run: a row for each, not measured.

    A row is "ok" when its engine is installed and offers the precision here; a model may still
    prove unsupported at export.
    """
    rows = []
    for runtime in engines().values():
        for precision in runtime.precisions():
            found = runtime.available()
            rows.append(Measurement(runtime.name, str(precision), "ok" if found.ok else "unsupported", found.reason))
    return environment(threads or default_threads()), tuple(rows)
