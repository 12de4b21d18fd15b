"""Find the fastest variant that keeps its answers and the budget, without measuring all of them.

Variants are tried in the order of their promise (``promise``): each is exported and gets a first look, a few timed runs
in a fresh process (``first_look``). One that cannot plausibly be faster than the fastest so far is left out, not even
exported. Whatever would lead must first keep its answers on a few of the images. The fastest few are then measured in
full, together with the baseline; if none of them will do, the search goes on without them. An int8 variant that is
fast but loses its answers comes again with its most sensitive operations in float (``fallback``).
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vitlet.certify.fallback import fallbacks
from vitlet.certify.first_look import FirstLook
from vitlet.certify.journal import Journal, Trial
from vitlet.certify.promise import Forecast
from vitlet.data.calibration import Calibration
from vitlet.data.imageset import ImageSet
from vitlet.data.twins import Pictures, fingerprints
from vitlet.engines import mixes
from vitlet.engines.variants import BASELINE, Variant, export_baseline, export_from
from vitlet.errors import MeasurementFailed, NotWritable, Unsupported
from vitlet.measure.comparison import Comparison, compare
from vitlet.measure.environment import environment
from vitlet.measure.run import measure
from vitlet.measure.settings import MeasureSettings
from vitlet.measure.verdict import Limits
from vitlet.records import (
    Artifact,
    Classifier,
    Device,
    Measurement,
    Progress,
    ProgressCallback,
    no_progress,
    to_json,
)

#: So many are measured in full at once, of those whose first look took at most ``_NEAR`` times as long as the leader's.
_FINALISTS, _NEAR = 4, 1.35
#: The share of a time limit after which nothing further is tried: the rest is for measuring in full.
_TRYING = 0.6


@dataclass(frozen=True)
class Wish:
    """What is searched for: the fastest of ``pairs`` within ``limits``, on ``images`` (``None``: by speed alone).

    ``calibration`` is what static quantization learns from; ``answers_matter`` is false for random weights. After
    ``time_limit_s`` seconds what has been found must do.
    """

    pairs: Sequence[Variant]
    images: ImageSet | None
    calibration: Calibration | None
    limits: Limits
    settings: MeasureSettings
    device: Device = "cpu"
    answers_matter: bool = True
    time_limit_s: float | None = None


@dataclass(frozen=True)
class Found:
    """Every variant, the baseline first: its artifact if it was measured in full, else its row; and the rows of all.
    ``untried`` counts those that the time limit came before."""

    exported: Sequence[Artifact | Measurement]
    measured: Sequence[Measurement]
    untried: int = 0


def search(classifier: Classifier, wish: Wish, journal: Journal, progress: ProgressCallback = no_progress) -> Found:
    """Search among the variants; files go to the ``journal``'s folder, and those of variants that lost their answers
    are removed. What the journal knows of the same search is not done again.

    Raises:
        VitletError: the baseline cannot be exported or measured, or the folder not be written.
    """
    return _Search(classifier, wish, journal, progress).run()


@dataclass(frozen=True)
class _Tried:
    """A variant that is in the race; ``ms`` for an image in the first look."""

    artifact: Artifact
    ms: float

    @property
    def name(self) -> str:
        return f"{self.artifact.engine} {self.artifact.precision}"


class _Search:
    """What is known so far, by the place of each variant in ``pairs``, of which the baseline is none: what was
    ``tried`` and is in the race, the ``rows`` of what is not any more, and the ``finals`` that were measured in full,
    all in one round. Of the former, ``over`` take far more than is allowed. ``pairs`` grows by those with operations
    in float, which at best take ``plain_ratio`` times as long as the baseline, as those without did.
    """

    def __init__(self, classifier: Classifier, wish: Wish, journal: Journal, progress: ProgressCallback) -> None:
        self.classifier, self.wish, self.journal, self.progress = classifier, wish, journal, progress
        self.pairs = [(runtime, p) for runtime, p in wish.pairs if (runtime.name, p) != BASELINE]
        self.tried: dict[int, _Tried] = {}
        self.rows: dict[int, Measurement] = {}
        self.finals: dict[int, _Tried] = {}
        self.over: dict[int, _Tried] = {}
        self.too_late: set[int] = set()
        self.plain_ratio: dict[int, float] = {}
        self.forecast = Forecast()
        self.began_s = time.monotonic()
        self._tell(" ".join(map(str, BASELINE)))
        with tempfile.TemporaryDirectory(prefix="vitlet-") as scratch:  # before the journal's folder may be cleared
            first = export_baseline(classifier, Path(scratch), wish.device)
            journal.begin(_about(first, wish))
            self.baseline = _moved(first, journal.folder)
        images = wish.images if wish.answers_matter else None
        self.look = FirstLook(self.baseline, images, wish.limits, wish.settings, journal.folder)

    def run(self) -> Found:
        most = _FINALISTS
        while True:
            while (place := self._next()) is not None:
                self._try(place)
            places = sorted(self.tried, key=lambda place: self.tried[place].ms)
            near = [place for place in places if self.tried[place].ms <= _NEAR * self._to_beat_ms()][:most]
            near = near or self._nearest()
            standard, comparison = self._measure(near)
            is_settled = comparison.best != 0 and not comparison.excess
            if is_settled or not self._can_go_on(near):
                return self._found(standard)
            self._give_up(near, comparison)
            most *= 2  # so that there are few rounds, however many lose their answers

    def _next(self) -> int | None:
        """The most promising of what was not tried and may be faster than what is to be beaten."""
        hopeful = [place for place in self._untried() if self._ms_at_best(place) < self._to_beat_ms()]
        if self._is_late(_TRYING):
            self.too_late |= set(hopeful)
            return None
        return min(hopeful, key=self._expected_ms, default=None)

    def _try(self, place: int) -> None:
        name = " ".join(self._named(place))
        self._tell(name)
        known = self.journal.recall(name, self.pairs[place][1])
        trial = known or self._first_look(place)
        if trial.ratio is not None:
            self.forecast.tell(*self._named(place), trial.ratio)
        fault = trial.fault or self._excess(trial)
        ms = self.look.ms * (trial.ratio or math.inf)
        if trial.artifact is not None and not fault and not trial.asked and ms < self._to_beat_ms():
            self._tell(f"{name}: its answers")
            trial = self._asked(trial, trial.artifact)
            fault = trial.fault
        if trial.fault:
            self._mix(place, trial.ratio)
        if trial is not known:
            self.journal.record(name, trial)
        if trial.row is None and trial.artifact is not None and not fault:
            self.tried[place] = _Tried(trial.artifact, ms)
            return
        self.rows[place] = trial.row or self._left_out(place, fault)
        if trial.artifact is not None and (trial.fault or trial.row):
            _remove(trial.artifact)
        elif trial.artifact is not None:
            self.over[place] = _Tried(trial.artifact, ms)

    def _mix(self, place: int, ratio: float | None) -> None:
        """Try a variant that lost its answers again, with some operations in float."""
        runtime, precision = self.pairs[place]
        if ratio is None or precision.in_float or not mixes(runtime, precision) or self._is_late(_TRYING):
            return
        for names in self._fallbacks:
            self.plain_ratio[len(self.pairs)] = ratio
            self.pairs.append((runtime, replace(precision, in_float=names)))

    @cached_property
    def _fallbacks(self) -> Sequence[tuple[str, ...]]:
        if self.look.few is None:  # nothing to tell by what helps
            return ()
        self._tell("which operations are sensitive")
        wish = self.wish
        return fallbacks(self.classifier, self.look.few, wish.calibration, threads=wish.settings.threads)

    def _first_look(self, place: int) -> Trial:
        runtime, precision = self.pairs[place]
        (found,) = export_from(
            self.baseline,
            self.classifier.reference,
            runtime,
            [precision],
            self.journal.folder,
            calibration=self.wish.calibration,
            device=self.wish.device,
        )
        if isinstance(found, Measurement):
            return Trial(row=found)
        if self.look.too_large(found):
            return Trial(artifact=found)
        seen = self.look.at(found)
        if seen.row is not None:
            return Trial(row=seen.row, artifact=found)
        return Trial(artifact=found, ratio=seen.ms / self.look.ms, memory_bytes=seen.memory_bytes)

    def _excess(self, trial: Trial) -> str:
        """What it takes far too much of."""
        if trial.artifact is None:
            return ""
        if trial.ratio is None:
            return self.look.too_large(trial.artifact)
        return self.look.excess(trial.artifact, trial.ratio, trial.memory_bytes)

    def _asked(self, trial: Trial, artifact: Artifact) -> Trial:
        try:
            return replace(trial, asked=True, fault=self.look.answers(artifact))
        except (MeasurementFailed, Unsupported) as error:
            return replace(trial, row=Measurement(artifact.engine, str(artifact.precision), "failed", str(error)))

    def _measure(self, places: Sequence[int]) -> tuple[Measurement, Comparison]:
        """Measure these in full beside the baseline, and return its row and what the comparison makes of them."""
        self.finals = {place: self.tried.pop(place) for place in places}
        artifacts = [self.baseline, *(one.artifact for one in self.finals.values())]
        standard, *rows = measure(artifacts, self.wish.images, self.wish.settings, self.progress)
        self.rows |= zip(places, rows, strict=True)
        limits = self.wish.limits
        return standard, compare(
            [standard, *rows],
            minimum_agreement=limits.minimum_agreement,
            maximum_drop=limits.maximum_drop,
            answers_matter=self.wish.answers_matter,
            budget=limits.budget,
        )

    def _nearest(self) -> list[int]:
        """Where nothing at all keeps to the limits, what seems to come nearest is measured, so that it can be told."""
        if self.finals or self.look.fits:
            return []
        is_of_size = self.wish.limits.budget.size_bytes is not None
        order = sorted(self.over.items(), key=lambda one: one[1].artifact.size_bytes if is_of_size else one[1].ms)
        for place, tried in order[:_FINALISTS]:
            self.tried[place] = tried
        return [place for place, _ in order[:_FINALISTS]]

    def _can_go_on(self, places: Sequence[int]) -> bool:
        """Whether there is anything left to measure, and time for it."""
        return bool(places) and not self._is_late(1.0) and (bool(self.tried) or self._next() is not None)

    def _give_up(self, places: Sequence[int], comparison: Comparison) -> None:
        """Only what was measured in one round can be compared: of the others it is told why they will not do."""
        for place, fault in zip(places, comparison.faults[1:], strict=True):
            if self.rows[place].status == "ok":
                if fault:
                    self._mix(place, self.finals[place].ms / self.look.ms)
                told = fault or f"no faster than {BASELINE[0]} {BASELINE[1]}"
                self.rows[place] = self._left_out(place, f"measured in full: {told}")

    def _found(self, standard: Measurement) -> Found:
        leader = min(self.finals.values(), key=lambda one: one.ms, default=None)
        beside = "" if leader is None else f"; {leader.name} took {leader.ms:.3g} ms"
        for place, one in self.tried.items():
            self.rows[place] = self._left_out(place, f"in a first look it took {one.ms:.3g} ms for an image{beside}")
        untried = [place for place in range(len(self.pairs)) if place not in self.rows]
        for place in untried:
            reason = f"about {self._expected_ms(place):.3g} ms for an image were expected of it{beside}"
            if place in self.too_late:
                reason = "the time limit came before its turn"
            self.rows[place] = self._left_out(place, reason)
        rows = [self.rows[place] for place in range(len(self.pairs))]
        artifacts = [self.finals[place].artifact if place in self.finals else rows[place] for place in range(len(rows))]
        return Found([self.baseline, *artifacts], [standard, *rows], len(self.too_late & set(untried)))

    def _untried(self) -> list[int]:
        return [place for place in range(len(self.pairs)) if place not in self.tried and place not in self.rows]

    def _to_beat_ms(self) -> float:
        """The first look of the fastest in the race; of the baseline, if it is in the race and none is faster."""
        return min([one.ms for one in self.tried.values()] + [self.look.ms if self.look.fits else math.inf])

    def _expected_ms(self, place: int) -> float:
        """What nothing is known of comes first: it is tried in any case."""
        known = self.plain_ratio.get(place) or self.forecast.expected(*self._named(place))
        return self.look.ms * (known or 0.0)

    def _ms_at_best(self, place: int) -> float:
        if place in self.plain_ratio:
            return self.look.ms * self.plain_ratio[place]
        return self.look.ms * self.forecast.at_best(*self._named(place))

    def _named(self, place: int) -> tuple[str, str]:
        runtime, precision = self.pairs[place]
        return runtime.name, str(precision)

    def _left_out(self, place: int, reason: str) -> Measurement:
        return Measurement(*self._named(place), "left out", reason)

    def _is_late(self, share: float) -> bool:
        limit = self.wish.time_limit_s
        return limit is not None and time.monotonic() - self.began_s > share * limit

    def _tell(self, what: str) -> None:
        leader = min(self.tried.values(), key=lambda one: one.ms, default=None)
        beside = "" if leader is None else f" ({leader.name} leads with {leader.ms:.3g} ms)"
        self.progress(Progress("search", f"{what}{beside}", len(self.tried) + len(self.rows), len(self.pairs)))


def _about(baseline: Artifact, wish: Wish) -> dict[str, Any]:
    """All that first looks depend on: what another search found says nothing. (What a variant may take is not among
    it: that is judged anew.)"""
    with baseline.path.open("rb") as weights:
        digest = hashlib.file_digest(weights, "sha256").hexdigest()
    learned = None if wish.calibration is None else fingerprints(Pictures.of(wish.calibration).pixels).tobytes()
    return {
        "weights": digest,
        "images": None if wish.images is None else [wish.images.digest, *wish.images.labels],
        "calibration": None if learned is None else [hashlib.sha256(learned).hexdigest(), len(wish.calibration or ())],
        "answers": [wish.limits.minimum_agreement, wish.limits.maximum_drop, wish.answers_matter],
        "settings": to_json(wish.settings),
        "device": wish.device,
        "environment": to_json(environment(wish.settings.threads)),
    }


def _moved(artifact: Artifact, folder: Path) -> Artifact:
    try:
        return replace(artifact, path=Path(shutil.copy(artifact.path, folder)))
    except OSError as error:
        raise NotWritable(f"{folder} cannot be written: {error.strerror or error}; free some space there") from error


def _remove(artifact: Artifact) -> None:
    for file in artifact.files:
        with suppress(OSError):
            file.unlink()
