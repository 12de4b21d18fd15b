"""The answers of one model: to a user's images, and how many of them are right."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitlet.bundle.read import Bundle
from vitlet.data.gather import Wanted, gather
from vitlet.data.imageset import ImageSet
from vitlet.data.made import is_made
from vitlet.engines import engine
from vitlet.engines.variants import BASELINE, Variant, calibrates, export_one, variants
from vitlet.errors import ImageError, InvalidValue, NoImages
from vitlet.measure.damage import changed_images, class_results
from vitlet.measure.environment import default_threads, environment
from vitlet.measure.gates import own_fault
from vitlet.measure.run import evaluate as measure_accuracy
from vitlet.pipeline.judging import Promise, refuse_verdict_on_made
from vitlet.pipeline.loading import Model, baseline_of, deployable, loaded, read_if_bundle, require_as_it_is
from vitlet.records import Artifact, Classifier, ProgressCallback, no_progress
from vitlet.results import Answer, Evaluation, Prediction


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
    refuse_verdict_on_made(data, max_drop)
    (variant,) = variants([engine_name], [precision_name])
    used = threads or default_threads()
    model, other = read_if_bundle(model), None if against is None else read_if_bundle(against)
    if isinstance(model, Bundle):
        given = {
            "--engine and --precision": (variant[0].name, variant[1]) != BASELINE,
            "--calibration": bool(calibration),
        }
        require_as_it_is(model, given)
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
            # Pictures that vitlet made say whether two files agree, and nothing of accuracy.
            certificate=None if reference is None or is_made(data) else promise.judge(found.images, logits, reference),
        )


@dataclass(frozen=True)
class ToEvaluate:
    """An artifact to be judged on ``images``, and what its answers are compared with, if anything: another
    artifact on the same images, prepared as that one wants them, and its ``standard_name``.
    """

    reference: str
    labels: tuple[str, ...]
    artifact: Artifact
    images: ImageSet
    standard: Artifact | None = None
    standard_images: ImageSet | None = None
    standard_name: str = ""


def exported_for_evaluation(
    own: Classifier | Bundle,
    variant: Variant,
    wanted: Wanted,
    against: Classifier | Bundle | str | None,
    scratch: Path,
    progress: ProgressCallback,
) -> ToEvaluate:
    """The bundle's artifact, or the model exported as ``variant``; its images; and the standard.

    Raises:
        NoImages: no images; or none with a label of the model, where there is nothing to compare the answers with.
        InvalidValue: the standard has other classes.
    """
    is_model = isinstance(own, Classifier)
    if isinstance(own, Classifier):
        spec, labels, name = own.image_spec, own.labels, own.reference
        wanted = wanted.of_bundled() if name == "bundled" else wanted
    else:
        spec, labels, name = own.manifest.image_spec, own.manifest.labels, str(own.path)
    needed = is_model and calibrates([variant])
    found = gather(wanted, spec, labels, scratch, calibrated=needed, progress=progress)
    # Answers can be compared without labels, too; and both are done with a model other than the standard itself.
    alone = against is None and (not is_model or (variant[0].name, variant[1]) == BASELINE)
    images = _labelled(found.images, labels) if alone else _given(found.images)
    standard = None
    if isinstance(own, Bundle):
        artifact = own.artifact
    elif (variant[0].name, variant[1]) == BASELINE:
        artifact = baseline_of(own, scratch / "model")
    else:
        artifact, standard = export_one(own, variant, scratch / "model", calibration=found.calibration), own
    job = ToEvaluate(name, labels, artifact, images)
    other = standard if against is None else against
    return job if other is None else _with_standard(job, other, wanted, scratch, progress)


def _with_standard(
    job: ToEvaluate, model: Classifier | Bundle | str, wanted: Wanted, scratch: Path, progress: ProgressCallback
) -> ToEvaluate:
    loaded_model = loaded(model, progress) if isinstance(model, str) else model
    if isinstance(loaded_model, Bundle):
        manifest = loaded_model.manifest
        spec, labels, name = manifest.image_spec, manifest.labels, str(loaded_model.path)
        artifact = loaded_model.artifact
    else:
        spec, labels, name = loaded_model.image_spec, loaded_model.labels, loaded_model.reference
        artifact = baseline_of(loaded_model, scratch / "standard")
    if labels != job.labels:
        raise InvalidValue(f"{name} has other classes than {job.reference}, so their answers cannot be compared")
    name = f"{artifact.engine} {artifact.precision}" if name == job.reference else name
    images: ImageSet | None = job.images
    if spec != job.images.spec:
        # The same files, as this model wants to see them.
        images = gather(wanted, spec, labels, scratch / "against", progress=progress).images
        if images is None or images.names != job.images.names:
            raise InvalidValue(f"{name} prepares images in another way, and these cannot be read a second time for it")
    return replace(job, standard=artifact, standard_images=images, standard_name=name)


def _given(images: ImageSet | None) -> ImageSet:
    if images is None:
        raise NoImages("no images were given: name a folder with one sub-folder for each class with --data")
    return images


def _labelled(found: ImageSet | None, labels: Sequence[str]) -> ImageSet:
    images = _given(found)
    if images.labelled == 0:
        raise NoImages(
            f"none of the {images.count} images lies in a folder named after one of the model's "
            f"{len(labels)} classes (such as {labels[0]!r}), so there is no accuracy to measure"
        )
    return images
