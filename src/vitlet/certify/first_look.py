"""A first look at a variant: how fast it seems, whether it is hopelessly over budget, whether its answers are hopeless.

Cheap and therefore rough: it decides what is measured in full, and nothing that is told as a measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from vitlet.certify import disagreement
from vitlet.certify.certificate import certify
from vitlet.data.imageset import ImageSet
from vitlet.errors import MeasurementFailed, Unsupported
from vitlet.measure.budget import Budget, excess
from vitlet.measure.gates import own_fault
from vitlet.measure.run import evaluate, measure
from vitlet.measure.settings import MeasureSettings
from vitlet.measure.statistics import latency_summary
from vitlet.measure.verdict import Limits
from vitlet.records import Artifact, Measurement

_RUNS, _INPUTS = 12, 8
#: A first look may be off by so much; beyond it a variant cannot be meant.
_SLACK = 1.3
#: Of the images an eighth is answered, but at least so many.
_SHARE, _LEAST = 8, 32
#: How sure it must be that answers are not good enough.
_SURE = 0.99


@dataclass(frozen=True)
class Look:
    """``ms`` for an image (median), ``None`` if it could not be timed; ``fault`` is why it cannot be chosen."""

    row: Measurement
    ms: float | None = None
    fault: str = ""


class FirstLook:
    """Looks at variants beside the ``baseline``, whose own ``ms`` is known from the start, and whether it ``fits`` the
    budget.

    Raises:
        MeasurementFailed: the baseline cannot be measured.
    """

    def __init__(
        self, baseline: Artifact, images: ImageSet | None, limits: Limits, settings: MeasureSettings, directory: Path
    ) -> None:
        self._baseline, self._images, self._limits, self._directory = baseline, images, limits, directory
        self._settings = MeasureSettings(
            settings.threads,
            runs=_RUNS,
            quick=True,
            throughput_batch=0,
            random_inputs=_INPUTS,
            silence_limit_s=settings.silence_limit_s,
        )
        self.ms = 1.0
        seen = self.at(baseline)
        if seen.ms is None:
            raise MeasurementFailed(f"{baseline.engine} {baseline.precision} could not be measured: {seen.row.reason}")
        self.ms, self.fits = seen.ms, not seen.fault

    def at(self, artifact: Artifact) -> Look:
        """Time it, unless its file is too large already."""
        budget, row = self._limits.budget, Measurement(artifact.engine, str(artifact.precision), "left out", "-")
        over = excess(replace(row, size_bytes=artifact.size_bytes), None, 0.0, Budget(size_bytes=budget.size_bytes))
        if over:
            return Look(row, None, over.told)
        (row,) = measure([artifact], None, self._settings)
        latency = latency_summary(row)
        if row.status != "ok" or latency is None:
            return Look(row, None, row.reason)
        return Look(row, latency.p50, self._too_much(row, latency.p50))

    def answers(self, artifact: Artifact) -> str:
        """Why its answers to a few images rule it out; empty if they do not, or there are none to ask."""
        if self._few is None:
            return ""
        path = self._directory / "first-look.npy"
        try:
            row = evaluate(
                artifact, self._few, self._settings.threads, reference_logits=self._original, logits_path=path
            )
        except (MeasurementFailed, Unsupported) as error:
            return str(error)
        fault = own_fault(row)
        if fault:
            return f"it is not the same model any more: {fault}"
        found = certify(
            np.load(path), self._few.labels, self._original, limit=self._limits.maximum_drop, confidence=_SURE
        )
        if found.labelled:
            return f"it lost {found.lost} of {found.labelled} images" if found.outcome == "fail" else ""
        changed_at_least = 1 - disagreement.upper_bound(found.images - found.changed, found.images, _SURE)
        is_hopeless = changed_at_least > 1 - self._limits.minimum_agreement
        return f"it changed {found.changed} of {found.images} answers" if is_hopeless else ""

    def _too_much(self, row: Measurement, ms: float) -> str:
        budget = self._limits.budget
        if budget.latency_ms is not None and ms > _SLACK * budget.latency_ms:
            return f"in a first look it took {ms:.3g} ms for an image where {budget.latency_ms:g} are allowed"
        if budget.speedup is not None and self.ms / ms < budget.speedup / _SLACK:
            return f"in a first look it was {self.ms / ms:.3g} times as fast where {budget.speedup:g} is asked for"
        memory = budget.memory_bytes and round(_SLACK * budget.memory_bytes)
        over = excess(row, None, 0.0, Budget(memory_bytes=memory or None))
        return over.told if over else ""

    @cached_property
    def _few(self) -> ImageSet | None:
        images = self._images
        if images is None:
            return None
        count = min(images.count, max(_LEAST, images.count // _SHARE))
        rows: Sequence[int] = np.linspace(0, images.count - 1, count).astype(int).tolist()
        return images.subset(rows, self._directory / "first-look-images.npy")

    @cached_property
    def _original(self) -> np.ndarray:
        assert self._few is not None
        path = self._directory / "first-look-original.npy"
        evaluate(self._baseline, self._few, self._settings.threads, logits_path=path)
        logits: np.ndarray = np.load(path, allow_pickle=False)
        return logits
