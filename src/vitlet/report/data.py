"""What a report is made of: measurements, what they mean, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from vitlet.bundle.manifest import NO_IMAGES, Images, Manifest, ModelFile
from vitlet.certify.certificate import Certificate
from vitlet.certify.inspection import Sensitivities
from vitlet.errors import InvalidValue
from vitlet.measure.damage import ChangedPicture
from vitlet.measure.statistics import (
    Latency,
    LatencyClaim,
    Speedup,
    latency_claim,
    latency_summary,
    noise_floor,
    speedup,
)
from vitlet.measure.verdict import Verdict
from vitlet.records import Architecture, Environment, ImageSpec, Measurement, Parity


@dataclass(frozen=True)
class Row:
    """One variant as a section shows it. ``speed`` is against the baseline; ``None`` if not comparable. ``claim`` is
    its latency with its interval, if it was timed."""

    index: int
    measurement: Measurement
    latency: Latency | None
    speed: Speedup | None
    verdict: Verdict
    is_best: bool
    is_baseline: bool
    claim: LatencyClaim | None = None

    @property
    def name(self) -> str:
        return f"{self.measurement.engine} {self.measurement.precision}"


@dataclass(frozen=True)
class ReportData:
    """Everything a report may say; what is ``None`` or empty has no section.

    ``best`` and ``baseline`` are places in ``measurements``. ``verdicts`` hold one word for each of
    them, or are empty and told from the speed-ups. ``model`` is the file in the bundle that the
    report lies in, if it lies in one. ``changed`` are images to show whose answer changed, ``sensitivities`` what
    quantizing each operation costs.
    """

    reference: str
    created: str
    vitlet_version: str
    environment: Environment
    measurements: tuple[Measurement, ...]
    baseline: int
    best: int
    sentences: tuple[str, ...]
    verdicts: tuple[Verdict, ...] = ()
    command: str = ""
    settings: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    library: str = ""
    random_weights: bool = False
    architecture: Architecture | None = None
    image_spec: ImageSpec | None = None
    images: Images = NO_IMAGES
    parity: Parity | None = None
    model: ModelFile | None = None
    note: str = ""
    certificate: Certificate | None = None
    changed: tuple[ChangedPicture, ...] = ()
    sensitivities: Sensitivities | None = None

    def __post_init__(self) -> None:
        count = len(self.measurements)
        for name, place in (("best", self.best), ("baseline", self.baseline)):
            if not 0 <= place < count:
                raise InvalidValue(f"{name} is {place}, which is not one of {count} measurements")
        if self.verdicts and len(self.verdicts) != count:
            raise InvalidValue(f"{len(self.verdicts)} verdicts on {count} measurements")

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        changed: tuple[ChangedPicture, ...] = (),
        sensitivities: Sensitivities | None = None,
    ) -> ReportData:
        """The report of a bundle."""
        m = manifest
        return cls(
            reference=m.reference,
            created=m.created,
            vitlet_version=m.vitlet_version,
            environment=m.environment,
            measurements=m.measurements,
            baseline=m.baseline,
            best=m.chosen,
            sentences=m.sentences,
            verdicts=m.verdicts,
            command=m.recipe.command,
            settings=m.recipe.settings,
            library=m.library,
            random_weights=m.random_weights,
            architecture=m.architecture,
            image_spec=m.image_spec,
            images=m.images,
            parity=m.parity,
            model=m.model,
            note=m.note,
            certificate=m.certificate,
            changed=changed,
            sensitivities=sensitivities,
        )

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Every variant, in the order of ``measurements``."""
        noise = noise_floor([m for m in self.measurements if m.status == "ok"])
        rows = []
        for index, measurement in enumerate(self.measurements):
            speed = self._speed(index, noise)
            verdict = self.verdicts[index] if self.verdicts else self._verdict(index, speed)
            rows.append(
                Row(
                    index=index,
                    measurement=measurement,
                    latency=latency_summary(measurement),
                    speed=speed,
                    verdict=verdict,
                    is_best=index == self.best and measurement.status == "ok",
                    is_baseline=index == self.baseline,
                    claim=latency_claim(measurement, noise=noise),
                )
            )
        return tuple(rows)

    @property
    def measured(self) -> tuple[Row, ...]:
        """The variants that were measured."""
        return tuple(row for row in self.rows if row.measurement.status == "ok")

    def _speed(self, index: int, noise: float | None) -> Speedup | None:
        both = (self.measurements[self.baseline], self.measurements[index])
        if index == self.baseline or not all(m.status == "ok" and m.latency_samples_ms for m in both):
            return None
        return speedup(*both, noise=noise)

    def _verdict(self, index: int, speed: Speedup | None) -> Verdict:
        measurement = self.measurements[index]
        if measurement.status != "ok":
            return measurement.status
        if index == self.baseline:
            return "baseline"
        if speed is None:
            return "uncompared"
        return "faster" if speed.is_faster else "slower" if speed.is_slower else "no faster"
