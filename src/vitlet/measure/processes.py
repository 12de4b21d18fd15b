"""One visit to an artifact in a fresh process."""

from __future__ import annotations

from collections.abc import Callable

from vitlet.errors import MeasurementFailed
from vitlet.measure.job import Job, Visit
from vitlet.processes.messages import Tick
from vitlet.processes.parent import Task, run_task


def run_job(job: Job, *, silence_limit_s: float, on_tick: Callable[[Tick], None] | None = None) -> Visit:
    """Do ``job`` in a fresh process and wait for what it measured.

    Raises:
        Unsupported: the artifact cannot run on this machine.
        MeasurementFailed: the process died, gave no sign of life for ``silence_limit_s`` seconds,
            or answered nonsense; the message names the variant and the cause.
    """
    name = f"{job.artifact.engine} {job.artifact.precision}"
    task = Task("vitlet.measure.worker", job, Visit, name, "measuring", MeasurementFailed)
    return run_task(task, silence_limit_s=silence_limit_s, on_tick=on_tick)
