"""A first look at a variant: how fast it seems, whether it is hopelessly over budget, whether its answers are hopeless.

Cheap and therefore rough: it decides what is measured in full, and nothing that is told as a measurement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vitlet.certify import disagreement
from vitlet.certify.certificate import certify
from vitlet.data.imageset import ImageSet
from vitlet.errors import MeasurementFailed
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
    """What was seen of a variant: ``ms`` for an image (median), ``memory_bytes``; or the ``row`` that says why not."""

    ms: float = math.inf
    memory_bytes: int | None = None
    row: Measurement | None = None


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
        seen = self.at(baseline)
        if seen.row is not None:
            raise MeasurementFailed(f"{baseline.engine} {baseline.precision} could not be measured: {seen.row.reason}")
        self.ms = seen.ms
        self.fits = not self.excess(baseline, 1.0, seen.memory_bytes)

    def at(self, artifact: Artifact) -> Look:
        """Time it."""
        (row,) = measure([artifact], None, self._settings)
        latency = latency_summary(row)
        if row.status != "ok" or latency is None:
            return Look(row=row)
        return Look(latency.p50, row.peak_memory_bytes)

    def too_large(self, artifact: Artifact) -> str:
        """Why its file alone rules it out; empty if it does not."""
        limit = self._limits.budget.size_bytes
        if limit is None or artifact.size_bytes <= limit:
            return ""
        return f"its file has {artifact.size_bytes / 1e6:.3g} MB where {limit / 1e6:g} are allowed"

    def excess(self, artifact: Artifact, ratio: float, memory_bytes: int | None) -> str:
        """What it takes far too much of; empty if that cannot be said yet. ``ratio``: its time over the baseline's."""
        budget, ms = self._limits.budget, ratio * self.ms
        if budget.latency_ms is not None and ms > _SLACK * budget.latency_ms:
            return f"in a first look it took {ms:.3g} ms for an image where {budget.latency_ms:g} are allowed"
        if budget.speedup is not None and _SLACK / ratio < budget.speedup:
            return f"in a first look it was {1 / ratio:.3g} times as fast where {budget.speedup:g} times is asked for"
        limit = budget.memory_bytes
        if limit is not None and memory_bytes is not None and memory_bytes > _SLACK * limit:
            return f"in a first look it took {memory_bytes / 1e6:.3g} MB of memory where {limit / 1e6:g} are allowed"
        return self.too_large(artifact)

    def answers(self, artifact: Artifact) -> str:
        """Why its answers to a few images rule it out; empty if they do not, or there are none to ask.

        Raises:
            MeasurementFailed, Unsupported: it cannot be run any more.
        """
        if self.few is None:
            return ""
        path = self._directory / "first-look.npy"
        row = evaluate(artifact, self.few, self._settings.threads, reference_logits=self._original, logits_path=path)
        fault = own_fault(row)
        if fault:
            return f"it is not the same model any more: {fault}"
        limit, logits = self._limits.maximum_drop, np.load(path, allow_pickle=False)
        found = certify(logits, self.few.labels, self._original, limit=limit, confidence=_SURE)
        if found.labelled:
            told = f"it lost {found.lost} and won {found.won} of {found.labelled} images"
            return told if found.outcome == "fail" else ""
        changed_at_least = 1 - disagreement.upper_bound(found.images - found.changed, found.images, _SURE)
        is_hopeless = changed_at_least > 1 - self._limits.minimum_agreement
        return f"it changed {found.changed} of {found.images} answers" if is_hopeless else ""

    @cached_property
    def few(self) -> ImageSet | None:
        """The images that are asked; ``None`` where answers do not matter."""
        images = self._images
        if images is None:
            return None
        count = min(images.count, max(_LEAST, images.count // _SHARE))
        rows: Sequence[int] = np.linspace(0, images.count - 1, count).astype(int).tolist()
        return images.subset(rows, self._directory / "first-look-images.npy")

    @cached_property
    def _original(self) -> np.ndarray:
        assert self.few is not None
        path = self._directory / "first-look-original.npy"
        evaluate(self._baseline, self.few, self._settings.threads, logits_path=path)
        logits: np.ndarray = np.load(path, allow_pickle=False)
        return logits
