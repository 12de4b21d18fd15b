"""What the public functions return: frozen values, one for each job of ``pipeline``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vitlet.bundle.read import Bundle
from vitlet.bundle.shipped.selftest_checks import Report
from vitlet.certify.certificate import Certificate
from vitlet.certify.inspection import Inspection
from vitlet.certify.verdict import Outcome
from vitlet.data.imageset import ImageSet
from vitlet.measure.comparison import Comparison
from vitlet.measure.damage import ChangedImage, ClassResult
from vitlet.measure.operation_times import OperationTimes
from vitlet.measure.statistics import Speedup
from vitlet.records import Environment, Measurement, Parity


@dataclass(frozen=True)
class Answer:
    """One class with its softmax probability."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The answers for one image, best first; none, and ``reason``, if it could not be read."""

    image: str
    answers: tuple[Answer, ...]
    reason: str = ""


@dataclass(frozen=True)
class Bench:
    """What was measured of every variant on this machine, and what it means."""

    reference: str
    environment: Environment
    measurements: tuple[Measurement, ...]
    comparison: Comparison
    images: ImageSet | None = None
    parity: Parity | None = None


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of one model over labelled images: altogether, by class, and which answers changed.

    ``labels`` are the model's. ``standard`` names the variant that the answers were compared with;
    empty if there was none, and then ``changed`` is empty too. ``fault`` says by how much the logits are too
    far off for the same model; empty if they are not. ``certificate`` says how surely the answers are as good as
    the standard's; ``None`` without one.
    """

    reference: str
    environment: Environment
    measurement: Measurement
    images: ImageSet
    labels: tuple[str, ...] = ()
    classes: tuple[ClassResult, ...] = ()
    changed: tuple[ChangedImage, ...] = ()
    standard: str = ""
    fault: str = ""
    certificate: Certificate | None = None


@dataclass(frozen=True)
class Regression:
    """Two bundles side by side on this machine. ``measurements`` are the old one's and the new one's speed, memory and
    size; ``speedup`` is the old one's time over the new one's, and ``speed`` the verdict on it, if there was a limit.
    ``evaluation`` is the new one's accuracy with its certificate against the old one; ``None`` without images.
    ``differences`` are sentences about what else is another.
    """

    environment: Environment
    measurements: tuple[Measurement, Measurement]
    speedup: Speedup
    speed: Outcome | None
    evaluation: Evaluation | None
    differences: tuple[str, ...]

    @property
    def outcome(self) -> Outcome | None:
        """The worst of the verdicts; ``None`` if none was asked for."""
        accuracy = self.evaluation and self.evaluation.certificate and self.evaluation.certificate.outcome
        order: tuple[Outcome, ...] = ("fail", "inconclusive", "pass")
        return next((one for one in order if one in (self.speed, accuracy)), None)


@dataclass(frozen=True)
class Compressed:
    """A bundle that was written, the comparison that chose what is in it, and the ``certificate`` on images that had no
    part in that; ``None`` if there were none. What else there is to know is in the bundle's manifest.
    """

    bundle: Bundle
    bench: Bench
    certificate: Certificate | None = None


@dataclass(frozen=True)
class Inspected:
    """What quantizing each operation of a model costs (simulated on ``images``) and saves (``times``), what its
    activations are like and where it looks; and the ``page`` that was written, if one was.
    """

    reference: str
    environment: Environment
    images: ImageSet
    inspection: Inspection
    times: OperationTimes
    page: Path | None = None


@dataclass(frozen=True)
class Verification:
    """What the checks found of a bundle on this machine, and the ``certificate`` that it came with, if it is whole."""

    report: Report
    environment: Environment
    certificate: Certificate | None = None
