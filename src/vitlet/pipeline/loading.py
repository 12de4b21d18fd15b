"""Getting a model: by reference, as an exported file, or ready to answer; and what this machine can run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from vitlet.bundle.read import Bundle, is_bundle, read_bundle
from vitlet.data.gather import Wanted, gather
from vitlet.data.samples import bundled_images
from vitlet.engines import engine, engines
from vitlet.engines.artifacts import require_operations
from vitlet.engines.variants import BASELINE, calibrates, export_one, variants
from vitlet.errors import InvalidValue
from vitlet.measure.environment import default_threads, environment
from vitlet.records import (
    Artifact,
    Classifier,
    Device,
    Environment,
    ImageSpec,
    Measurement,
    Progress,
    ProgressCallback,
    no_progress,
)

Model: TypeAlias = "str | Path | Classifier | Bundle"
"""What a user may name: a reference ("timm:deit_tiny_patch16_224"), a bundle's folder, or either one loaded."""


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
    in_float: Sequence[str] = (),
    device: Device = "cpu",
) -> Artifact:
    """Write one variant to ``out`` (the engine adds its suffix) and return it.

    ``calibration`` are images for a precision that learns its ranges from some (else random inputs). The operations
    ``in_float``, as ``inspect`` names them, are left in float.

    Raises:
        InvalidValue: no such engine, precision or operation.
        Unsupported: the two do not go together on this machine, or the engine cannot leave operations in float.
        NotWritable: the file cannot be written.
    """
    ((runtime, plain),) = variants([engine], [precision])
    variant = runtime, replace(plain, in_float=tuple(in_float))
    require_operations(variant[1], classifier)
    with tempfile.TemporaryDirectory(prefix="vitlet-") as scratch:
        if not calibration and classifier.reference == "bundled":
            calibration = [bundled_images()]
        wanted, calibrated = Wanted(calibration=calibration), calibrates([variant])
        spec, labels = classifier.image_spec, classifier.labels
        found = gather(wanted, spec, labels, Path(scratch), calibrated=calibrated)
        return export_one(classifier, variant, Path(out), calibration=found.calibration, device=device)


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


def read_if_bundle(model: Model) -> Classifier | Bundle | str:
    """The bundle, where the name is that of one's folder; else what was named."""
    if isinstance(model, str | Path):
        return read_bundle(Path(model)) if is_bundle(Path(model)) else str(model)
    return model


def refuse_bundle(model: Model, why: str) -> str | Classifier:
    """The model, unless it is a bundle: ``why`` goes on after "..., which" and before "its origin".

    Raises:
        InvalidValue: the message names the model that the bundle was made from.
    """
    found = read_if_bundle(model)
    if isinstance(found, Bundle):
        raise InvalidValue(f"{found.path} is a bundle, which {why} its origin: {found.manifest.reference}")
    return found


def require_as_it_is(bundle: Bundle, options: Mapping[str, bool]) -> None:
    """Refuse options that say how to export a model, of a bundle, which holds its own file.

    Raises:
        InvalidValue: the message names those that were given.
    """
    given = [name for name, is_given in options.items() if is_given]
    if given:
        raise InvalidValue(f"{bundle.path} is a bundle, whose file is taken as it is; leave out {', '.join(given)}")


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
        artifact = baseline_of(classifier, Path(scratch) / "model")
        yield Deployable(classifier.reference, artifact, classifier.image_spec, classifier.labels)


def baseline_of(classifier: Classifier, path: Path) -> Artifact:
    return engine(BASELINE[0]).export(classifier, BASELINE[1], path)
