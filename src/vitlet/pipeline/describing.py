"""What a bundle says about itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from vitlet import __version__
from vitlet.bundle.manifest import MOST_NAMED, Images, Manifest, ModelFile, Recipe
from vitlet.certify.certificate import Certificate
from vitlet.certify.sentences import remarks
from vitlet.data.imageset import ImageSet
from vitlet.data.twins import Twins
from vitlet.measure.budget import Budget
from vitlet.measure.settings import MeasureSettings
from vitlet.measure.verdict import Limits
from vitlet.records import Artifact, Classifier
from vitlet.results import Bench


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


def _named(budget: Budget) -> dict[str, float]:
    """The limits that there are, by name."""
    names = {"latency_ms": "max_latency_ms", "speedup": "min_speedup"}
    there = {name: limit for name, limit in asdict(budget).items() if limit is not None}
    return {names.get(name, f"max_{name}"): limit for name, limit in there.items()}
