"""The stages that the jobs of ``pipeline`` share: load, export, measure, compare, describe."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from vitlet import __version__
from vitlet.bundle.manifest import MOST_NAMED, Images, Manifest, ModelFile, Recipe
from vitlet.bundle.read import Bundle, is_bundle, read_bundle
from vitlet.certify.certificate import Certificate, certify
from vitlet.certify.inspection import Sensitivities
from vitlet.certify.journal import Journal
from vitlet.certify.looks import count_look
from vitlet.certify.paired import check_confidence
from vitlet.certify.search import Wish, search
from vitlet.certify.sentences import remarks
from vitlet.certify.verdict import check_limit
from vitlet.data.calibration import ENOUGH
from vitlet.data.gather import Gathered, Wanted, gather, gather_parts
from vitlet.data.imageset import ImageSet
from vitlet.data.named import is_named
from vitlet.data.twins import Twins, fingerprints
from vitlet.engines import engine
from vitlet.engines.variants import BASELINE, Variant, calibrates, export_one, export_variants
from vitlet.errors import InvalidValue, NoImages, UnreadableImage, Unsupported
from vitlet.measure.budget import Budget
from vitlet.measure.comparison import compare
from vitlet.measure.damage import ChangedPicture, changed_pictures
from vitlet.measure.environment import environment
from vitlet.measure.run import evaluate, measure
from vitlet.measure.settings import MeasureSettings
from vitlet.measure.statistics import latency_claim, latency_summary, noise_floor
from vitlet.measure.verdict import Limits
from vitlet.records import (
    Artifact,
    Classifier,
    Device,
    ImageSpec,
    Measurement,
    Parity,
    Progress,
    ProgressCallback,
    no_progress,
)
from vitlet.results import Bench, Inspected

if TYPE_CHECKING:
    from vitlet.data.labelled import LabelledImages
    from vitlet.distill.teacher import Teacher

#: Images whose answer changed that the report shows.
_MOST_SHOWN = 12
#: Images that the operations' sensitivity is found on for the report, and what that may take.
_LOOKED_INTO, _MOST_SECONDS = 16, 60.0
#: Of the held-out images so many are laid out for ``compress``, which measures 500 by default.
_MOST_HELD_OUT = 2000

Model: TypeAlias = "str | Path | Classifier | Bundle"
"""What a user may name: a reference ("timm:deit_tiny_patch16_224"), a bundle's folder, or either one loaded."""


def read_if_bundle(model: Model) -> Classifier | Bundle | str:
    """The bundle, where the name is that of one's folder; else what was named."""
    if isinstance(model, str | Path):
        return read_bundle(Path(model)) if is_bundle(Path(model)) else str(model)
    return model


def loaded(model: str | Path | Classifier, progress: ProgressCallback, random_weights: bool = False) -> Classifier:
    """The classifier itself, loaded unless it is already."""
    if isinstance(model, Classifier):
        return model
    from vitlet.models.reference import load

    progress(Progress("load", str(model)))
    return load(str(model), random_weights=random_weights, progress=progress)


@dataclass(frozen=True)
class Deployable:
    """An artifact on disk with all that is needed to feed it and read its answers."""

    reference: str
    artifact: Artifact
    image_spec: ImageSpec
    labels: tuple[str, ...]


@contextmanager
def deployable(model: Model, progress: ProgressCallback = no_progress) -> Iterator[Deployable]:
    """The bundle's own artifact, or any other model in fp32 torch, removed afterwards."""
    model = read_if_bundle(model)
    if isinstance(model, Bundle):
        manifest = model.manifest
        yield Deployable(str(model.path), model.artifact, manifest.image_spec, manifest.labels)
        return
    classifier = loaded(model, progress)
    with tempfile.TemporaryDirectory(prefix="vitlet-") as scratch:
        artifact = _baseline(classifier, Path(scratch) / "model")
        yield Deployable(classifier.reference, artifact, classifier.image_spec, classifier.labels)


@dataclass(frozen=True)
class Measured:
    """Every variant: what was exported of it (or why not) and what was measured, in the same order; the ``images``
    that were measured, others ``to_certify`` with, and which of these look like one of those; how many variants a
    time limit left ``untried``.
    """

    exported: Sequence[Artifact | Measurement]
    measured: Sequence[Measurement]
    images: ImageSet | None
    to_certify: ImageSet | None = None
    twins: tuple[Twins, ...] = ()
    untried: int = 0


def export_and_measure(
    classifier: Classifier,
    pairs: Sequence[Variant],
    wanted: Wanted,
    settings: MeasureSettings,
    device: Device,
    scratch: Path,
    progress: ProgressCallback,
) -> Measured:
    """Export the baseline and every variant into ``scratch`` and measure them side by side."""
    found = _gathered(gather, classifier, pairs, wanted, scratch, progress)
    return _all_measured(classifier, pairs, found, settings, device, scratch, progress)


def searched(
    classifier: Classifier,
    pairs: Sequence[Variant],
    wanted: Wanted,
    limits: Limits,
    settings: MeasureSettings,
    device: Device,
    time_limit_s: float | None,
    scratch: Path,
    journal: Journal,
    progress: ProgressCallback,
    *,
    exhaustive: bool,
) -> Measured:
    """Search among the variants for the fastest within ``limits`` (or measure them all), with images kept back to
    certify it by. The ``journal`` keeps what the search finds."""
    answers_matter = not classifier.random_weights
    found = _gathered(gather_parts if answers_matter else gather, classifier, pairs, wanted, scratch, progress)
    if exhaustive:
        return _all_measured(classifier, pairs, found, settings, device, scratch, progress)
    wish = Wish(pairs, found.images, found.calibration, limits, settings, device, answers_matter, time_limit_s)
    best = search(classifier, wish, journal, progress)
    return Measured(best.exported, best.measured, found.images, found.to_certify, found.twins, best.untried)


def _all_measured(
    classifier: Classifier,
    pairs: Sequence[Variant],
    found: Gathered,
    settings: MeasureSettings,
    device: Device,
    scratch: Path,
    progress: ProgressCallback,
) -> Measured:
    exported = export_variants(classifier, pairs, scratch, progress, calibration=found.calibration, device=device)
    artifacts = [item for item in exported if isinstance(item, Artifact)]
    rows = iter(measure(artifacts, found.images, settings, progress))
    measured = [next(rows) if isinstance(item, Artifact) else item for item in exported]
    return Measured(exported, measured, found.images, found.to_certify, found.twins)


def _gathered(
    take: Callable[..., Gathered],
    classifier: Classifier,
    pairs: Sequence[Variant],
    wanted: Wanted,
    scratch: Path,
    progress: ProgressCallback,
) -> Gathered:
    if classifier.reference == "bundled":
        wanted = wanted.of_bundled()
    spec, labels = classifier.image_spec, classifier.labels
    return take(wanted, spec, labels, scratch, calibrated=calibrates(pairs), progress=progress)


@dataclass(frozen=True)
class Promise:
    """What a certificate is to say: whether the drop is within ``limit`` (0..1), if there is one, and how surely.
    ``looks`` is where it is remembered what these images judged (``vitlet.certify.looks``); ``None``: nowhere.

    Raises:
        InvalidValue: ``limit`` or ``confidence`` is out of its range.
    """

    limit: float | None = None
    confidence: float = 0.95
    looks: Path | None = None

    def __post_init__(self) -> None:
        check_confidence(self.confidence)
        if self.limit is not None:
            check_limit(self.limit)

    def judge(self, images: ImageSet, logits: np.ndarray, original: np.ndarray) -> Certificate:
        """``certify``, with the looks counted; float32 [images, classes] both."""
        earlier = None
        if self.looks is not None:
            prints = fingerprints(np.load(images.pixels_path, mmap_mode="r", allow_pickle=False))
            earlier = count_look(self.looks, prints, original.argmax(axis=1), logits.argmax(axis=1))
        return certify(
            logits, images.labels, original, limit=self.limit, confidence=self.confidence, earlier_looks=earlier
        )


def certified(
    job: Measured,
    chosen: int,
    baseline: int,
    promise: Promise,
    labels: Sequence[str],
    threads: int,
    scratch: Path,
    progress: ProgressCallback,
) -> tuple[Certificate | None, tuple[ChangedPicture, ...]]:
    """How surely variant number ``chosen`` is as good as ``baseline``, by the images that were kept back, and some of
    those whose answer changed; ``None`` where there are none, or nothing to compare.
    """
    pair = [job.exported[place] for place in (chosen, baseline)]
    if chosen == baseline or job.to_certify is None or not all(isinstance(item, Artifact) for item in pair):
        return None, ()
    answers = []
    for name, artifact in zip(("chosen", "original"), pair, strict=True):
        assert isinstance(artifact, Artifact)
        path = scratch / f"{name}-logits.npy"
        evaluate(artifact, job.to_certify, threads, progress, logits_path=path)
        answers.append(np.load(path, mmap_mode="r", allow_pickle=False))
    certificate = promise.judge(job.to_certify, answers[0], answers[1])
    mine, original = job.measured[chosen], job.measured[baseline]
    claim = latency_claim(mine, original, noise=noise_floor(job.measured))
    changed = changed_pictures(job.to_certify, answers[0], answers[1], labels, _MOST_SHOWN)
    return replace(certificate, latency=claim), changed


def looked_into(
    classifier: Classifier, chosen: Artifact, job: Measured, settings: MeasureSettings, progress: ProgressCallback
) -> Sensitivities | None:
    """What quantizing each operation costs, where the ``chosen`` variant is in int8 and it can be found in about
    ``_MOST_SECONDS``; else ``None``.
    """
    name = {"int8-static-bf16": "int8-static"}.get(chosen.precision.name, chosen.precision.name)
    if name not in ("int8-static", "int8-dynamic") or job.images is None or classifier.random_weights:
        return None
    from vitlet.certify.sensitivity import sensitivities
    from vitlet.certify.simulation import Simulation
    from vitlet.engines.torch.threads import using_threads

    baseline = latency_summary(job.measured[0])
    with using_threads(settings.threads):
        try:
            rows = range(min(_LOOKED_INTO, job.images.count))
            few = job.images.subset(rows, job.images.pixels_path.with_name("looked-into.npy"))
            # The ranges of the very images: nothing is judged by it.
            simulation = Simulation(classifier.module, few.batches(1), dynamic=name == "int8-dynamic")
        except Unsupported:
            return None
        # About half of a run is saved by starting at the operation that is rounded.
        runs = 0.6 * len(simulation.operations) + 12
        if baseline is None or runs * few.count * baseline.p50 > 1000 * _MOST_SECONDS:
            return None
        return sensitivities(
            simulation, few, progress, precision="int8-dynamic" if "dynamic" in name else "int8-static"
        )


def compared(
    reference: str,
    measured: Sequence[Measurement],
    images: ImageSet | None,
    settings: MeasureSettings,
    limits: Limits,
    random_weights: bool = False,
    parity: Parity | None = None,
) -> Bench:
    """What was measured, and what it means."""
    comparison = compare(
        measured,
        maximum_drop=limits.maximum_drop,
        minimum_agreement=limits.minimum_agreement,
        answers_matter=not random_weights,
        budget=limits.budget,
    )
    return Bench(reference, environment(settings.threads), tuple(measured), comparison, images, parity)


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
        artifact = _baseline(own, scratch / "model")
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
        artifact = _baseline(loaded_model, scratch / "standard")
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


def _baseline(classifier: Classifier, path: Path) -> Artifact:
    return engine(BASELINE[0]).export(classifier, BASELINE[1], path)


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


def manifest_of(
    classifier: Classifier,
    artifact: Artifact,
    found: Bench,
    settings: MeasureSettings,
    limits: Limits,
    command: str,
    certificate: Certificate | None = None,
    certified_on: ImageSet | None = None,
    twins: Sequence[Twins] = (),
) -> Manifest:
    """Everything that the bundle with ``artifact`` will say about itself."""
    comparison = found.comparison
    about = () if certificate is None else remarks(certificate, classifier.labels, twins)
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
                "max_drop": limits.maximum_drop,
                "min_agreement": limits.minimum_agreement,
                **_named(limits.budget),
            },
        ),
        model=ModelFile.of(artifact),
        environment=found.environment,
        measurements=found.measurements,
        chosen=comparison.best,
        baseline=comparison.baseline,
        sentences=(*comparison.sentences, *about),
        verdicts=comparison.verdicts,
        images=Images.of(found.images),
        parity=found.parity,
        certificate=certificate,
        certified_on=Images.of(certified_on if certificate else None),
        twins=tuple(twins[:MOST_NAMED]) if certificate else (),
        twin_count=len(twins) if certificate else 0,
    )


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


def _named(budget: Budget) -> dict[str, float]:
    """The limits that there are, by name."""
    names = {"latency_ms": "max_latency_ms", "speedup": "min_speedup"}
    there = {name: limit for name, limit in asdict(budget).items() if limit is not None}
    return {names.get(name, f"max_{name}"): limit for name, limit in there.items()}


def bundle_teacher(bundle: Bundle) -> Teacher:
    """A bundle as a teacher for ``distill``: its own artifact answers, through its own runtime."""
    import torch

    from vitlet.distill.teacher import Teacher

    manifest, threads = bundle.manifest, torch.get_num_threads()
    session = engine(bundle.artifact.engine).open(bundle.artifact, threads=threads)

    def answer(images: torch.Tensor) -> torch.Tensor:
        logits = session.run(images.detach().float().cpu().contiguous().numpy())
        return torch.from_numpy(np.array(logits)).to(images.device)

    hashes = " ".join(entry.sha256 for _, entry in sorted(manifest.files.items()))
    return Teacher(str(bundle.path), answer, manifest.image_spec, manifest.labels, hashes)


@contextmanager
def held_out(data: str, root: Path | None = None) -> Iterator[tuple[list[str], list[str]]]:
    """The test images of what ``distill`` was trained on, and some training images to calibrate with, as what
    ``compress`` takes: a named data set as itself, any other (or one in another place) as class folders.
    """
    from vitlet.data.datasets import load_dataset

    if is_named([data]) and root is None:
        yield [data], []
        return
    with tempfile.TemporaryDirectory(prefix="vitlet-") as scratch:
        test, train = load_dataset(data, "test", root), load_dataset(data, "train", root)
        for name, images, most in (("test", test, _MOST_HELD_OUT), ("calibration", train, ENOUGH)):
            some = np.random.default_rng(0).permutation(images.count)[:most]
            _lay_out(images.subset(some), Path(scratch) / name)
        yield [str(Path(scratch) / "test")], [str(Path(scratch) / "calibration")]


def _folder_name(label: str) -> str:
    """A class's name as that of a folder, which is matched to it by letters and digits (``vitlet.data.labels``)."""
    return re.sub(r"[^\w ]+", " ", label).strip()[:100] or "unnamed"


def _lay_out(images: LabelledImages, folder: Path) -> None:
    """As class folders: files as links to them, pixels as PNG files; what cannot be read is left out."""
    from vitlet.data.labelled import LabelledFiles

    for number, label in enumerate(images.labels):
        place = folder / _folder_name(images.class_names[label])
        place.mkdir(parents=True, exist_ok=True)
        if isinstance(images, LabelledFiles):
            path = Path(images.name(number)).absolute()
            (place / f"{number:07d}{path.suffix}").symlink_to(path)
            continue
        with suppress(UnreadableImage):
            images.read(number).save(place / f"{number:07d}.png")
