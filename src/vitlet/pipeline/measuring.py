"""Every variant exported and measured side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitlet.bundle.read import Bundle
from vitlet.data.gather import Gathered, Wanted, gather
from vitlet.data.imageset import ImageSet
from vitlet.data.twins import Twins
from vitlet.engines.variants import Variant, calibrates, export_variants, variants
from vitlet.measure.comparison import compare
from vitlet.measure.environment import environment
from vitlet.measure.run import measure
from vitlet.measure.settings import MeasureSettings
from vitlet.measure.verdict import Limits
from vitlet.pipeline.loading import Model, loaded, read_if_bundle, require_as_it_is
from vitlet.records import Artifact, Classifier, Device, Measurement, Parity, ProgressCallback, no_progress
from vitlet.results import Bench


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
            require_as_it_is(
                model,
                {
                    "--engines": bool(engine_names),
                    "--precisions": bool(precision_names),
                    "--calibration": bool(calibration),
                    "--random-weights": random_weights,
                    "--device": device != "cpu",
                },
            )
            manifest = model.manifest
            images = gather(wanted, manifest.image_spec, manifest.labels, Path(scratch), progress=progress).images
            measured = measure([model.artifact], images, settings, progress)
            return compared(str(model.path), measured, images, settings, limits)
        classifier = loaded(model, progress, random_weights)
        job = export_and_measure(classifier, pairs, wanted, settings, device, Path(scratch), progress)
        return compared(classifier.reference, job.measured, job.images, settings, limits, classifier.random_weights)


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
    found = gathered(gather, classifier, pairs, wanted, scratch, progress)
    return all_measured(classifier, pairs, found, settings, device, scratch, progress)


def all_measured(
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


def gathered(
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
