"""The flow, one readable function for each thing a user does. With ``records`` it is the public API.

Every function raises only ``vitlet.errors.VitletError``s, each of one sentence; ``progress`` is a
callback that is told how far a long job is. Nothing is written outside ``out``, but for a
temporary folder that is removed at the end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from vitlet import __version__
from vitlet.bundle.manifest import Images, Manifest, ModelFile, Recipe
from vitlet.bundle.read import Bundle, is_bundle, read_bundle
from vitlet.bundle.write import check_writable, write_bundle
from vitlet.data.imageset import ImageSet
from vitlet.engines import engine, engines
from vitlet.engines.variants import export_variants, variants
from vitlet.errors import ImageError, InvalidValue, NoImages, ParityFailed, Unsupported
from vitlet.measure.comparison import compare
from vitlet.measure.environment import default_threads, environment
from vitlet.measure.run import MeasureSettings, measure
from vitlet.measure.run import evaluate as measure_accuracy
from vitlet.records import (
    Artifact,
    Classifier,
    Environment,
    ImageSpec,
    Measurement,
    Parity,
    Progress,
    ProgressCallback,
    no_progress,
)
from vitlet.results import Answer, Bench, Compressed, Evaluation, Prediction

if TYPE_CHECKING:
    from vitlet.distill.job import DistillResult

Model: TypeAlias = "str | Path | Classifier | Bundle"
"""What a user may name: a reference ("timm:deit_tiny_patch16_224"), a bundle's folder, or either one loaded."""

#: The resampling is the same code as the source library's, so only the order of the float
#: operations in (pixel / 255 - mean) / std can differ.
PREPROCESSING_TOLERANCE = 1e-5
#: The same sums in another order: up to 1e-4 on random weights, whose logits are near 1; trained
#: models' logits are ten times larger.
LOGITS_TOLERANCE = 1e-3
NO_IMAGES = "no images were given: name a folder with --data, or use `vitlet bench` for speed and size alone"
#: Images of the parity check. It is exact or it is not, so a few are enough.
PARITY_IMAGES = 4


@dataclass(frozen=True)
class Deployable:
    """An artifact on disk with all that is needed to feed it and read its answers."""

    reference: str
    artifact: Artifact
    image_spec: ImageSpec
    labels: tuple[str, ...]


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


def export(classifier: Classifier, *, engine: str, precision: str, out: str | Path) -> Artifact:
    """Write one variant to ``out`` (the engine adds its suffix) and return it.

    Raises:
        InvalidValue: no such engine or precision.
        Unsupported: the two do not go together on this machine.
        NotWritable: the file cannot be written.
    """
    ((runtime, chosen),) = variants([engine], [precision])
    return runtime.export(classifier, chosen, Path(out))


def classify(
    model: Model, images: Sequence[str | Path], *, top: int = 5, threads: int | None = None
) -> Iterator[Prediction]:
    """Classify paths, folders, globs, ``-`` (standard input) and http(s) addresses, in order, one
    ``Prediction`` at a time. A broken image is a prediction without answers.

    Raises:
        NoImages: nothing was found where an argument pointed.
        BundleInvalid, ModelError: the model cannot be had.
    """
    import numpy as np

    from vitlet.data.find import find_images
    from vitlet.data.preprocess import preprocess
    from vitlet.data.read import read_image

    if top < 1:
        raise InvalidValue(f"top is {top}; ask for at least 1 answer")
    sources = find_images([str(image) for image in images])
    with _deployable(model) as served:
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
    random_weights: bool = False,
    settings: MeasureSettings | None = None,
    engine_names: Sequence[str] = (),
    precision_names: Sequence[str] = (),
    limit: int | None = 500,
    max_drop: float = 0.01,
    min_agreement: float = 0.98,
    progress: ProgressCallback = no_progress,
) -> Bench:
    """Export every variant of a model that this machine can run, and measure them side by side;
    of a bundle, measure the artifact it holds.

    ``data`` are folders, files or globs; without them random inputs are used and no accuracy is
    told. The recommended variant may lose ``max_drop`` (0..1) of accuracy; without labels it
    must give the same answer on ``min_agreement`` (0..1) of the images.

    Raises:
        VitletError: the model or the images cannot be had, or no variant could be measured.
    """
    settings, limits = settings or MeasureSettings(), (max_drop, min_agreement)
    model = _read_if_bundle(model)
    with tempfile.TemporaryDirectory(prefix="vitlet-") as scratch:
        if isinstance(model, Bundle):
            images = _images(data, model.manifest.image_spec, model.manifest.labels, Path(scratch), limit, progress)
            measured = measure([model.artifact], images, settings, progress)
            reference = str(model.path)
            return _bench(reference, measured, images, settings, limits)
        classifier = _loaded(model, progress, random_weights)
        images = _images(
            data, classifier.image_spec, classifier.labels, Path(scratch), limit, progress, classifier.reference
        )
        exported = export_variants(classifier, variants(engine_names, precision_names), Path(scratch), progress)
        measured = _measure_all(exported, images, settings, progress)
        return _bench(classifier.reference, measured, images, settings, limits, classifier.random_weights)


def compress(
    model: str | Path | Classifier,
    *,
    out: str | Path,
    data: Sequence[str | Path] = (),
    random_weights: bool = False,
    settings: MeasureSettings | None = None,
    engine_names: Sequence[str] = (),
    precision_names: Sequence[str] = (),
    limit: int | None = 500,
    max_drop: float = 0.01,
    min_agreement: float = 0.98,
    overwrite: bool = False,
    check_source: bool = True,
    command: str = "",
    progress: ProgressCallback = no_progress,
) -> Compressed:
    """Do the whole job: load, check against the source library, export and measure every variant,
    and write a bundle with the fastest that keeps its accuracy to within ``max_drop`` (0..1) or, without
    labels, the same answer on ``min_agreement`` (0..1) of the images.

    Raises:
        OutputExists, NotWritable: before the work begins, if ``out`` cannot be written.
        ParityFailed: vitlet's path gives other results than the source library
            (``check_source=False`` goes on all the same).
        VitletError: the model or the images cannot be had.
    """
    settings, limits = settings or MeasureSettings(), (max_drop, min_agreement)
    target = Path(out)
    check_writable(target, overwrite=overwrite)
    if not data and not random_weights and isinstance(model, str | Path) and str(model) != "bundled":
        raise NoImages(NO_IMAGES)  # before a download rather than after it
    classifier = _loaded(model, progress, random_weights)
    with tempfile.TemporaryDirectory(prefix="vitlet-") as scratch:
        images = _images(
            data, classifier.image_spec, classifier.labels, Path(scratch), limit, progress, classifier.reference
        )
        if images is None and not classifier.random_weights:
            raise NoImages(NO_IMAGES)
        parity = _check_source(classifier, data, progress) if check_source else None
        exported = export_variants(classifier, variants(engine_names, precision_names), Path(scratch), progress)
        measured = _measure_all(exported, images, settings, progress)
        found = _bench(classifier.reference, measured, images, settings, limits, classifier.random_weights, parity)
        chosen = exported[found.comparison.best]
        if not isinstance(chosen, Artifact):  # compare() only ever recommends a row that was measured
            raise Unsupported(f"no variant of {classifier.reference} could be exported and measured here")
        progress(Progress("write", str(target)))
        manifest = _manifest(classifier, chosen, found, settings, limits, command)
        from vitlet.report import render_report

        bundle = write_bundle(target, manifest, chosen, {"report.html": render_report(manifest)}, overwrite=overwrite)
        return Compressed(bundle, found)


def evaluate(
    model: Model,
    *,
    data: Sequence[str | Path] = (),
    engine_name: str = "torch",
    precision_name: str = "fp32",
    threads: int | None = None,
    limit: int | None = None,
    progress: ProgressCallback = no_progress,
) -> Evaluation:
    """Measure the accuracy of one exported file over labelled images, through its own runtime.

    A bundle is judged by the artifact it holds; any other model is exported first, as fp32 torch
    unless told otherwise. ``data`` is a folder with a sub-folder for each class.

    Raises:
        NoImages: no image, or none whose folder names a class of the model.
    """
    model = _read_if_bundle(model)
    with (
        tempfile.TemporaryDirectory(prefix="vitlet-") as scratch,
        _deployable(model, engine_name, precision_name, progress) as served,
    ):
        images = _images(data, served.image_spec, served.labels, Path(scratch), limit, progress, served.reference)
        if images is None:
            raise NoImages("no images were given: name a folder with one sub-folder for each class with --data")
        if images.labelled == 0:
            raise NoImages(
                f"none of the {images.count} images lies in a folder named after one of the model's "
                f"{len(served.labels)} classes (such as {served.labels[0]!r}), so there is no accuracy to measure"
            )
        used = threads or default_threads()
        measurement = measure_accuracy(served.artifact, images, used, progress)
        return Evaluation(served.reference, environment(used), measurement, images)


def distill(data: str, out: str | Path, **settings: Any) -> DistillResult:
    """Train a small ViT on a named data set and write it to ``out``; all settings and errors are those
    of ``vitlet.distill.job.distill``.
    """
    from vitlet.distill.job import distill as train

    return train(data, Path(out), **settings)


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


def _read_if_bundle(model: Model) -> Classifier | Bundle | str:
    if isinstance(model, str | Path):
        return read_bundle(Path(model)) if is_bundle(Path(model)) else str(model)
    return model


def _loaded(model: str | Path | Classifier, progress: ProgressCallback, random_weights: bool = False) -> Classifier:
    if isinstance(model, Classifier):
        return model
    progress(Progress("load", str(model)))
    return load(model, random_weights=random_weights, progress=progress)


@contextmanager
def _deployable(
    model: Model,
    engine_name: str = "torch",
    precision_name: str = "fp32",
    progress: ProgressCallback = no_progress,
) -> Iterator[Deployable]:
    """The bundle's own artifact, or an export of any other model that is removed afterwards."""
    model = _read_if_bundle(model)
    if isinstance(model, Bundle):
        manifest = model.manifest
        yield Deployable(str(model.path), model.artifact, manifest.image_spec, manifest.labels)
        return
    classifier = _loaded(model, progress)
    with tempfile.TemporaryDirectory(prefix="vitlet-") as scratch:
        artifact = export(classifier, engine=engine_name, precision=precision_name, out=Path(scratch) / "model")
        yield Deployable(classifier.reference, artifact, classifier.image_spec, classifier.labels)


def _images(
    data: Sequence[str | Path],
    spec: ImageSpec,
    labels: Sequence[str],
    scratch: Path,
    limit: int | None,
    progress: ProgressCallback,
    reference: str = "",
) -> ImageSet | None:
    """Decode the images once; the bundled model brings its own when none are named."""
    if not data and reference == "bundled":
        from vitlet.data.samples import bundled_images

        data = [bundled_images()]
    if not data:
        return None
    from vitlet.data.load import load_images
    from vitlet.data.named import is_named, load_named

    paths = [str(path) for path in data]
    if is_named(paths):
        return load_named(paths[0], spec, labels, scratch, limit=limit, progress=progress)
    return load_images(paths, spec, labels, scratch, limit=limit, progress=progress)


def _measure_all(
    exported: Sequence[Artifact | Measurement],
    images: ImageSet | None,
    settings: MeasureSettings,
    progress: ProgressCallback,
) -> tuple[Measurement, ...]:
    """Measure what was exported; rows that were not keep their place."""
    measured = iter(measure([item for item in exported if isinstance(item, Artifact)], images, settings, progress))
    return tuple(next(measured) if isinstance(item, Artifact) else item for item in exported)


def _bench(
    reference: str,
    measured: Sequence[Measurement],
    images: ImageSet | None,
    settings: MeasureSettings,
    limits: tuple[float, float],
    random_weights: bool = False,
    parity: Parity | None = None,
) -> Bench:
    comparison = compare(
        measured, maximum_drop=limits[0], minimum_agreement=limits[1], answers_matter=not random_weights
    )
    return Bench(reference, environment(settings.threads), tuple(measured), comparison, images, parity)


def _check_source(classifier: Classifier, data: Sequence[str | Path], progress: ProgressCallback) -> Parity:
    """Compare preprocessing and logits with the source library's own, on the user's first images."""
    from vitlet.data.find import find_images
    from vitlet.data.named import is_named
    from vitlet.data.read import read_image
    from vitlet.data.samples import bundled_images
    from vitlet.models.parity import check_parity

    paths = [str(path) for path in data]
    if not paths or "-" in paths or is_named(paths):  # standard input can be read only once
        paths = [str(bundled_images())]

    progress(Progress("check", f"against {classifier.library}"))
    pictures = []
    for source in find_images(paths):
        try:
            pictures.append(read_image(source.read(), source.name))
        except ImageError:  # load_images names and counts it
            continue
        if len(pictures) == PARITY_IMAGES:
            break
    parity = check_parity(classifier, pictures)
    for what, found, most in (
        ("preprocessing", parity.preprocessing_max_abs, PREPROCESSING_TOLERANCE),
        ("logits", parity.logits_max_abs, LOGITS_TOLERANCE),
    ):
        if found is not None and not found <= most:
            raise ParityFailed(
                f"vitlet's {what} for {classifier.reference} differ from those of {parity.library} by {found:.2g}, "
                f"more than {most:.0e}: please report it, or go on all the same with --no-check"
            )
    return parity


def _manifest(
    classifier: Classifier,
    artifact: Artifact,
    found: Bench,
    settings: MeasureSettings,
    limits: tuple[float, float],
    command: str,
) -> Manifest:
    comparison = found.comparison
    return Manifest(
        vitlet_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        reference=classifier.reference,
        library=classifier.library,
        random_weights=classifier.random_weights,
        seed=classifier.seed,
        note=classifier.note,
        architecture=classifier.architecture,
        image_spec=classifier.image_spec,
        labels=classifier.labels,
        recipe=Recipe(
            command=command,
            engine=artifact.engine,
            precision=str(artifact.precision),
            threads=settings.threads,
            settings={
                "runs": settings.runs,
                "batch": settings.throughput_batch,
                "max_drop": limits[0],
                "min_agreement": limits[1],
            },
        ),
        model=ModelFile.of(artifact),
        environment=found.environment,
        measurements=found.measurements,
        chosen=comparison.best,
        baseline=comparison.baseline,
        sentences=comparison.sentences,
        verdicts=comparison.verdicts,
        images=Images.of(found.images),
        parity=found.parity,
    )
