"""A new bundle held against an older one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitlet.bundle.difference import differences
from vitlet.bundle.read import Bundle, read_bundle
from vitlet.certify.verdict import check_slowdown, judge_speed
from vitlet.errors import InvalidValue, MeasurementFailed
from vitlet.measure.environment import environment
from vitlet.measure.run import measure
from vitlet.measure.settings import MeasureSettings
from vitlet.measure.statistics import noise_floor, speedup
from vitlet.pipeline.evaluating import evaluate
from vitlet.pipeline.judging import Promise, refuse_verdict_on_made
from vitlet.records import ProgressCallback, no_progress
from vitlet.results import Regression


def compare(
    old: str | Path | Bundle,
    new: str | Path | Bundle,
    *,
    data: Sequence[str | Path] = (),
    max_drop: float | None = None,
    max_slower: float | None = None,
    confidence: float = 0.95,
    looks: Path | None = None,
    settings: MeasureSettings | None = None,
    limit: int | None = None,
    progress: ProgressCallback = no_progress,
) -> Regression:
    """Hold a new bundle against an older one: speed, memory and size of both, measured side by side; with ``data`` the
    accuracy of the new one, and how much of it may have been lost, as ``evaluate`` says.

    ``max_slower`` (0.1 is 10 % more time for an image) asks for a verdict on speed, ``max_drop`` for one on accuracy.

    Raises:
        InvalidValue: one of them is no bundle, they have other classes, there are no images for ``max_drop``, or a
            limit is out of its range.
        MeasurementFailed: one of the two cannot be run here.
    """
    Promise(max_drop, confidence)
    if max_drop is not None and not data:
        raise InvalidValue(
            "without images there is no verdict on accuracy; name some with --data, or leave out --max-drop"
        )
    refuse_verdict_on_made(data, max_drop)
    if max_slower is not None:
        check_slowdown(max_slower)  # before the measuring rather than after it
    bundles = [one if isinstance(one, Bundle) else read_bundle(Path(one)) for one in (old, new)]
    before, after = (one.manifest for one in bundles)
    if before.labels != after.labels:
        raise InvalidValue(f"{bundles[1].path} has other classes than {bundles[0].path}, so they cannot be compared")
    settings = settings or MeasureSettings(visits=8)
    first, second = measure([one.artifact for one in bundles], None, settings, progress)
    for row in (first, second):
        if row.status != "ok":
            raise MeasurementFailed(f"{row.engine} {row.precision} cannot be measured here: {row.reason}")
    speed = speedup(first, second, noise=noise_floor([first, second]))
    found = None
    if data:
        found = evaluate(
            bundles[1],
            data=data,
            against=bundles[0],
            max_drop=max_drop,
            confidence=confidence,
            looks=looks,
            threads=settings.threads,
            limit=limit,
            progress=progress,
        )
    return Regression(
        environment(settings.threads),
        (first, second),
        speed,
        None if max_slower is None else judge_speed(speed, max_slower),
        found,
        differences(before, after),
    )
