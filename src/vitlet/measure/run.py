"""Measure variants side by side, each visit in a fresh process, so that the machine can favour none.

The protocol: visits go A B C, C B A, so that a machine that grows warm or busy treats every variant
alike; every visit is a fresh process, pinned to as many CPUs as there are threads, that opens the
file, warms up until steady and times one image after another. Images are decoded beforehand.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from vitlet.data.imageset import ImageSet
from vitlet.errors import InvalidValue, MeasurementFailed, NoImages, Unsupported
from vitlet.measure.accuracy import agreement, expected_calibration_error, logits_error, top_k
from vitlet.measure.cores import choose_cpus
from vitlet.measure.environment import environment
from vitlet.measure.job import Asked, Inputs, Job, Visit
from vitlet.measure.processes import run_job
from vitlet.measure.settings import MeasureSettings
from vitlet.processes.messages import Tick
from vitlet.records import (
    Artifact,
    Environment,
    Execution,
    Measurement,
    Progress,
    ProgressCallback,
    no_progress,
)

__all__ = ["MeasureSettings", "answers", "evaluate", "measure"]


def measure(
    artifacts: Sequence[Artifact],
    images: ImageSet | None,
    settings: MeasureSettings,
    progress: ProgressCallback = no_progress,
    *,
    baseline: int = 0,
    reference_logits: np.ndarray | None = None,
) -> tuple[Measurement, ...]:
    """Measure each artifact from its file: speed, memory, size, and how good its answers are.

    Logits error and agreement are against ``reference_logits``, float32 [images, classes], or else
    against the logits of artifact number ``baseline``. Answers are computed at batch 1, as
    deployed. Without images, speed is measured with random ones, and the answers to
    ``settings.random_inputs`` of them are compared; there is no accuracy then. A variant that
    fails is a row with status "failed" or "unsupported" and the reason; the others go on.

    Raises:
        InvalidValue: the artifacts, images and reference do not fit each other.
    """
    if not artifacts:
        return ()
    _check_fit(artifacts, images, baseline, reference_logits, settings)
    with tempfile.TemporaryDirectory(prefix="vitlet-measure-") as scratch:
        logits_paths = [Path(scratch) / f"{number}.npy" for number in range(len(artifacts))]
        inputs = _inputs(images, settings)
        jobs = [
            _job(artifact, [Asked(inputs, path)], settings)
            for artifact, path in zip(artifacts, logits_paths, strict=True)
        ]
        visits = _visit_all(jobs, settings, progress)
        extras = _extras(jobs, visits, settings, progress)
        if reference_logits is None and isinstance(visits[baseline], list):
            reference_logits = np.load(logits_paths[baseline], mmap_mode="r", allow_pickle=False)
        here = environment(settings.threads)
        return tuple(
            _with_extras(_measurement(job, found, images, settings, reference_logits, here), extra)
            for job, found, extra in zip(jobs, visits, extras, strict=True)
        )


def evaluate(
    artifact: Artifact,
    images: ImageSet,
    threads: int,
    progress: ProgressCallback = no_progress,
    *,
    reference_logits: np.ndarray | None = None,
    logits_path: Path | None = None,
    silence_limit_s: float = 600.0,
) -> Measurement:
    """Measure accuracy alone, through the artifact itself at batch 1, in one fresh process.

    The logits are kept in ``logits_path`` (``.npy``, float32 [images, classes]) if it is given.
    ``progress`` hears how many images are answered. Nothing is timed.

    Raises:
        NoImages: the set is empty.
        Unsupported: the artifact cannot run on this machine.
        MeasurementFailed: the process died, hung or answered nonsense.
    """
    settings = MeasureSettings(threads, throughput_batch=0, streams=0, explain=False, silence_limit_s=silence_limit_s)
    _check_fit([artifact], images, 0, reference_logits, settings)
    with tempfile.TemporaryDirectory(prefix="vitlet-measure-") as scratch:
        asked = Asked(_inputs(images, settings), logits_path or Path(scratch) / "logits.npy")
        job, visit = _ask(artifact, [asked], settings, progress)
        found = _measurement(job, [visit], images, settings, reference_logits, environment(threads))
        return replace(found, load_ms=None, first_ms=None)  # told by ``measure``, whose visits are alike


def answers(
    artifact: Artifact,
    sets: Sequence[ImageSet],
    threads: int,
    scratch: Path,
    progress: ProgressCallback = no_progress,
) -> list[np.ndarray]:
    """The logits of each of the ``sets``, float32 [images, classes], at batch 1, all from one fresh process. They lie
    in files in ``scratch``.

    Raises:
        NoImages: a set is empty.
        Unsupported: the artifact cannot run on this machine.
        MeasurementFailed: the process died, hung or answered nonsense.
    """
    settings = MeasureSettings(threads, throughput_batch=0, streams=0, explain=False)
    for images in sets:
        _check_fit([artifact], images, 0, None, settings)
    folder = Path(tempfile.mkdtemp(prefix="answers-", dir=scratch))
    asked = [Asked(_inputs(images, settings), folder / f"{place}.npy") for place, images in enumerate(sets)]
    _ask(artifact, asked, settings, progress)
    return [np.load(one.logits_path, mmap_mode="r", allow_pickle=False) for one in asked]


def _ask(
    artifact: Artifact, asked: Sequence[Asked], settings: MeasureSettings, progress: ProgressCallback
) -> tuple[Job, Visit]:
    """Have what is asked answered in one fresh process that times nothing; ``progress`` hears how many images are."""

    def on_tick(tick: Tick) -> None:
        progress(Progress("evaluate", _name(artifact), tick.done, tick.total))

    job = replace(_job(artifact, asked, settings), timing=None)
    return job, run_job(job, silence_limit_s=settings.silence_limit_s, on_tick=on_tick)


def _check_fit(
    artifacts: Sequence[Artifact],
    images: ImageSet | None,
    baseline: int,
    reference_logits: np.ndarray | None,
    settings: MeasureSettings,
) -> None:
    if not 0 <= baseline < len(artifacts):
        raise InvalidValue(f"baseline is {baseline}; there are {len(artifacts)} artifacts, counted from 0")
    classes = artifacts[baseline].classes
    for artifact in artifacts:
        if artifact.classes != classes:
            raise InvalidValue(f"{_name(artifact)} has {artifact.classes} classes, its baseline has {classes}")
        if images is not None and (images.spec.height, images.spec.width) != (artifact.height, artifact.width):
            raise InvalidValue(
                f"{_name(artifact)} takes {artifact.height}x{artifact.width} pixels, the images were prepared "
                f"as {images.spec.height}x{images.spec.width}; prepare them with the model's own ImageSpec"
            )
    if images is not None and images.count == 0:
        raise NoImages("the image set is empty; give at least one image")
    if images is not None and max(images.labels) >= classes:
        raise InvalidValue(f"an image has label {max(images.labels)}, the model has {classes} classes, counted from 0")
    expected = (settings.random_inputs if images is None else images.count, classes)
    if reference_logits is not None and reference_logits.shape != expected:
        raise InvalidValue(f"reference_logits is {reference_logits.shape}; it must be {expected}")


def _inputs(images: ImageSet | None, settings: MeasureSettings) -> Inputs:
    if images is None:
        return Inputs(random_count=settings.random_inputs, seed=settings.seed)
    return Inputs(images.pixels_path, images.spec, encoded=images.encoded)


def _job(artifact: Artifact, asked: Sequence[Asked], settings: MeasureSettings) -> Job:
    """The first visit to an artifact, which alone computes logits and throughput; timed are the first inputs."""
    return Job(
        artifact=artifact,
        threads=settings.threads,
        cpus=choose_cpus(settings.threads),
        inputs=asked[0].inputs,
        timing=settings.timing,
        throughput_batch=settings.throughput_batch or None,
        asked=tuple(asked),
    )


_Found = list[Visit] | Unsupported | MeasurementFailed


def _visit_all(jobs: Sequence[Job], settings: MeasureSettings, progress: ProgressCallback) -> list[_Found]:
    """Visit all forwards, then all backwards, and so on; one that fails is not visited again."""
    found: list[_Found] = [[] for _ in jobs]
    total = _steps(jobs, settings)
    done = 0
    for round_ in range(settings.visit_count):
        order = range(len(jobs)) if round_ % 2 == 0 else reversed(range(len(jobs)))
        for number in order:
            job, so_far = jobs[number], found[number]
            if isinstance(so_far, list):
                if round_ > 0:
                    job = replace(job, throughput_batch=None, asked=())
                where = f"{_name(job.artifact)}, visit {round_ + 1} of {settings.visit_count}"
                on_tick = _teller(progress, where, done, total)
                try:
                    visit = run_job(job, silence_limit_s=settings.silence_limit_s, on_tick=on_tick)
                    found[number] = [*so_far, visit]
                except (Unsupported, MeasurementFailed) as error:
                    found[number] = error
            done += 1
    return found


def _steps(jobs: Sequence[Job], settings: MeasureSettings) -> int:
    """Processes that measuring all of them takes, if none fails."""
    return len(jobs) * (settings.visit_count + _has_extras(settings))


def _has_extras(settings: MeasureSettings) -> bool:
    return bool(settings.streams or settings.explain)


def _extras(
    jobs: Sequence[Job], found: Sequence[_Found], settings: MeasureSettings, progress: ProgressCallback
) -> list[tuple[Job, Visit] | None]:
    """After all timed visits: throughput of several sessions at once, and what the runtime did. Each in a
    process of its own, whose death costs these two and nothing else.
    """
    extras: list[tuple[Job, Visit] | None] = []
    total = _steps(jobs, settings)
    for number, (job, visits) in enumerate(zip(jobs, found, strict=True)):
        streams = _streams_that_fit(job.artifact, settings)
        if not isinstance(visits, list) or not (streams or settings.explain):
            extras.append(None)
            continue
        extra = replace(
            job, timing=None, throughput_batch=None, asked=(), streams=streams, explain=bool(settings.explain)
        )
        on_tick = _teller(progress, _name(job.artifact), total - len(jobs) + number, total)
        try:
            extras.append((extra, run_job(extra, silence_limit_s=settings.silence_limit_s, on_tick=on_tick)))
        except (Unsupported, MeasurementFailed) as error:
            told = Execution((), "nothing is known", notes=(f"The runtime does not tell what it did ({error}).",))
            extras.append((extra, Visit(0.0, 0.0, execution=told)))
    progress(Progress("measure", "done", total, total))
    return extras


def _streams_that_fit(artifact: Artifact, settings: MeasureSettings) -> int | None:
    """The sessions at once, if they take no more than half of the memory (each at twice its file)."""
    streams = settings.streams or 0
    needed = 2 * artifact.size_bytes * streams
    return streams if streams and needed < environment(settings.threads).memory_bytes / 2 else None


def _with_extras(row: Measurement, extra: tuple[Job, Visit] | None) -> Measurement:
    if extra is None or row.status != "ok":
        return row
    job, visit = extra
    per_s = visit.streams_images_per_s
    return replace(
        row,
        streams_images_per_s=per_s,
        streams=job.streams if per_s is not None else None,
        execution=visit.execution,
    )


def _teller(progress: ProgressCallback, where: str, done: int, total: int) -> Callable[[Tick], None]:
    def tell(tick: Tick) -> None:
        count = f" {tick.done} of {tick.total}" if tick.total else ""
        progress(Progress("measure", f"{where}: {tick.doing}{count}", done, total))

    return tell


def _measurement(
    job: Job,
    found: _Found,
    images: ImageSet | None,
    settings: MeasureSettings,
    reference: np.ndarray | None,
    here: Environment,
) -> Measurement:
    """Bring the visits to one artifact together: samples kept apart, the rest by its median."""
    artifact = job.artifact
    row = Measurement(
        artifact.engine,
        str(artifact.precision),
        "failed",
        "not measured",
        size_bytes=artifact.size_bytes,
        quick=settings.quick,
        device=artifact.device,
        environment=here,
        note=artifact.note,
    )
    if isinstance(found, Unsupported):
        return replace(row, status="unsupported", reason=found.reason)
    if isinstance(found, MeasurementFailed):
        return replace(row, reason=str(found))
    peaks = [visit.peak_memory_bytes for visit in found if visit.peak_memory_bytes is not None]
    per_s = found[0].throughput_images_per_s
    row = replace(
        row,
        status="ok",
        reason="",
        latency_samples_ms=tuple(visit.latency_ms for visit in found if visit.latency_ms),
        peak_memory_bytes=round(median(peaks)) if peaks else None,
        load_ms=median(visit.load_ms for visit in found),
        first_ms=median(visit.first_ms for visit in found),
        throughput_images_per_s=per_s,
        throughput_batch=job.throughput_batch if per_s is not None else None,
        end_to_end_samples_ms=tuple(sample for visit in found for sample in visit.end_to_end_ms),
    )
    return _with_answers(row, job, images, reference)


def _with_answers(row: Measurement, job: Job, images: ImageSet | None, reference: np.ndarray | None) -> Measurement:
    if not job.asked:
        return row
    logits = np.load(job.asked[0].logits_path, mmap_mode="r", allow_pickle=False)
    if reference is not None:
        row = replace(row, logits_error=logits_error(logits, reference), agreement=agreement(logits, reference))
    if images is None:
        return replace(row, random_inputs=len(logits))
    return replace(
        row,
        top1=top_k(logits, images.labels, 1),
        top5=top_k(logits, images.labels, 5),
        calibration_error=expected_calibration_error(logits, images.labels),
        images=images.count,
        labelled_images=images.labelled,
    )


def _name(artifact: Artifact) -> str:
    return f"{artifact.engine} {artifact.precision}"
