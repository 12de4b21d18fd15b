"""A variant is an engine with one of its precisions: which there are, and all of them exported."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from vitlet.data.calibration import Calibration
from vitlet.engines import Engine, engine, engines
from vitlet.engines.export_job import Exported, ExportJob, Outcome, status_of
from vitlet.errors import ExportFailed, InvalidValue, NotWritable, Unsupported
from vitlet.processes.messages import Tick
from vitlet.processes.parent import Task, run_task
from vitlet.records import (
    Artifact,
    Classifier,
    Device,
    Measurement,
    Precision,
    Progress,
    ProgressCallback,
    Status,
    no_progress,
)
from vitlet.whole_file import write_whole

Variant: TypeAlias = tuple[Engine, Precision]

#: What all others are compared with: the model as it came, in PyTorch.
BASELINE = ("torch", Precision("fp32"))

#: No converter has been seen to take longer over one precision of a ViT-L.
_SILENCE_LIMIT_S = 1800.0


def variants(engine_names: Sequence[str] = (), precision_names: Sequence[str] = ()) -> tuple[Variant, ...]:
    """The engines and precisions of those names; all when none are named.

    Raises:
        InvalidValue: no engine or precision has that name, or none of these engines has it.
    """
    chosen = [engine(name) for name in engine_names] or list(engines().values())
    pairs = [(runtime, precision) for runtime in chosen for precision in runtime.precisions()]
    known = sorted({str(precision) for _, precision in pairs})
    for name in precision_names:
        if name not in known:
            raise InvalidValue(f"no precision is called {name!r} here; there are: {', '.join(known)}")
    return tuple(pair for pair in pairs if not precision_names or str(pair[1]) in precision_names)


def calibrates(pairs: Sequence[Variant]) -> bool:
    """Whether any of these variants needs calibration images."""
    return any(precision.is_calibrated for _, precision in pairs)


def export_variants(
    classifier: Classifier,
    pairs: Sequence[Variant],
    directory: Path,
    progress: ProgressCallback = no_progress,
    *,
    calibration: Calibration | None = None,
    device: Device = "cpu",
) -> list[Artifact | Measurement]:
    """Export the baseline and then each other variant into ``directory``; one that cannot be had is
    its row of the table already, with the reason.

    Each engine exports in a process of its own, from the baseline's file.

    Raises:
        VitletError: the baseline cannot be exported, so that there is nothing to compare with.
    """
    others = [(runtime, p) for runtime, p in pairs if (runtime.name, p) != BASELINE]
    total = len(others) + 1
    progress(Progress("export", " ".join(map(str, BASELINE)), 0, total))
    first = export_baseline(classifier, directory, device)
    done: list[Artifact | Measurement] = [first]
    for runtime, group in groupby(others, key=lambda pair: pair[0]):
        precisions = tuple(precision for _, precision in group)
        on_tick = _teller(progress, len(done), total)
        done += export_from(
            first, classifier.reference, runtime, precisions, directory, on_tick, calibration=calibration, device=device
        )
    return done


def export_baseline(classifier: Classifier, directory: Path, device: Device = "cpu") -> Artifact:
    """What all variants are compared with, and exported from."""
    path = directory / f"{BASELINE[0]}-{BASELINE[1]}"
    return engine(BASELINE[0]).export(classifier, BASELINE[1], path, device=device)


def export_from(
    baseline: Artifact,
    reference: str,
    runtime: Engine,
    precisions: Sequence[Precision],
    directory: Path,
    on_tick: Callable[[Tick], None] = lambda tick: None,
    *,
    calibration: Calibration | None = None,
    device: Device = "cpu",
) -> list[Artifact | Measurement]:
    """Export an engine's precisions from the ``baseline``'s file into ``directory``, in one process; what cannot be had
    is its row of the table already, with the reason.
    """
    job = ExportJob(baseline.path, reference, runtime.name, tuple(precisions), directory, calibration, device)
    return [_row(runtime, outcome) for outcome in _outcomes(runtime, job, on_tick)]


def export_one(
    classifier: Classifier,
    variant: Variant,
    path: Path,
    *,
    calibration: Calibration | None = None,
    device: Device = "cpu",
) -> Artifact:
    """Export one variant to ``path`` (the engine adds its suffix), in a process of its own.

    Raises:
        Unsupported: the engine cannot run here, or cannot have this precision or model.
        NotWritable: the file cannot be written.
        ExportFailed: the exporter crashed, or raised what it should not.
    """
    runtime, precision = variant
    if not path.parent.is_dir():  # before the work rather than after it
        raise NotWritable(f"{path} cannot be written: there is no folder {path.parent}; create that folder first")
    with tempfile.TemporaryDirectory(prefix="vitlet-") as scratch:
        start = engine(BASELINE[0]).export(classifier, BASELINE[1], Path(scratch) / "start")
        place = Path(scratch) / "export"
        place.mkdir()
        job = ExportJob(
            start.path, classifier.reference, runtime.name, (precision,), place, calibration, device, place / path.name
        )
        (outcome,) = _outcomes(runtime, job, lambda tick: None)
        if outcome.artifact is not None:
            return _moved(outcome.artifact, path.parent)
    if outcome.status == "unsupported":
        raise Unsupported(outcome.reason)
    if outcome.status == "not writable":
        raise NotWritable(outcome.reason)
    raise ExportFailed(f"{runtime.name} {precision} cannot be exported: {outcome.reason}")


def _moved(artifact: Artifact, folder: Path) -> Artifact:
    """Put the files into ``folder``, each whole or not at all: an export that is cut short leaves nothing there."""
    for file in artifact.files:
        write_whole(folder / file.name, file.read_bytes())
    return replace(artifact, path=folder / artifact.path.name)


def _outcomes(runtime: Engine, job: ExportJob, on_tick: Callable[[Tick], None]) -> Sequence[Outcome]:
    """What became of every precision; where the process crashed, each is tried in a process of its own."""
    found = runtime.available()
    if not found.ok:
        return [Outcome(precision, None, "unsupported", found.reason) for precision in job.precisions]
    try:
        return _run(job, on_tick).outcomes
    except (ExportFailed, Unsupported, NotWritable) as error:
        if len(job.precisions) == 1:
            return [Outcome(job.precisions[0], None, status_of(error), str(error))]
    alone = (replace(job, precisions=(precision,)) for precision in job.precisions)
    return [outcome for one in alone for outcome in _outcomes(runtime, one, on_tick)]


def _run(job: ExportJob, on_tick: Callable[[Tick], None]) -> Exported:
    task = Task("vitlet.engines.export_worker", job, Exported, job.engine, "exporting", ExportFailed)
    # What a converter leaves behind goes when the folder goes.
    return run_task(task, silence_limit_s=_SILENCE_LIMIT_S, on_tick=on_tick, temporary=job.directory)


def _row(runtime: Engine, outcome: Outcome) -> Artifact | Measurement:
    if outcome.artifact is not None:
        return outcome.artifact
    status: Status = "unsupported" if outcome.status == "unsupported" else "failed"
    return Measurement(runtime.name, str(outcome.precision), status, outcome.reason)


def _teller(progress: ProgressCallback, before: int, total: int) -> Callable[[Tick], None]:
    return lambda tick: progress(Progress("export", tick.doing, before + tick.done, total))
