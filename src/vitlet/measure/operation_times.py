"""What leaving an operation in float costs in time: its nodes in two profiles of ONNX Runtime, in fp32 and in int8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from vitlet.errors import MeasurementFailed
from vitlet.measure.cores import choose_cpus
from vitlet.measure.job import Inputs
from vitlet.processes.parent import Task, run_task
from vitlet.records import Artifact

#: Timed runs of each file; in turns, so that a machine that drifts favours none.
RUNS = 64


@dataclass(frozen=True)
class OperationTime:
    """One operation's time for one image, in milliseconds: a sample for each run, of both files."""

    fp32_samples_ms: tuple[float, ...]
    int8_samples_ms: tuple[float, ...]

    @property
    def saved_ms(self) -> float:
        """What int8 saves: the difference of the medians. So much longer an image takes if it is left in float."""
        return median(self.fp32_samples_ms) - median(self.int8_samples_ms)


@dataclass(frozen=True)
class OperationTimes:
    """The times of those operations that both profiles name; ``reason`` says why there are none."""

    times: Mapping[str, OperationTime]
    source: str = ""
    reason: str = ""

    @property
    def saved_ms(self) -> float:
        """What int8 saves in all of them."""
        return sum(one.saved_ms for one in self.times.values())


@dataclass(frozen=True)
class ProfileJob:
    """What the profiling process is told: two files of the same model, and the names of its operations."""

    fp32: Artifact
    int8: Artifact
    operations: tuple[str, ...]
    threads: int
    cpus: tuple[int, ...]
    inputs: Inputs
    runs: int = RUNS


def operation_times(
    fp32: Artifact, int8: Artifact, operations: tuple[str, ...], inputs: Inputs, threads: int
) -> OperationTimes:
    """Profile both files in one fresh process, in turns, batch 1.

    Raises:
        Unsupported: ONNX Runtime cannot profile them here.
        MeasurementFailed: the process died, hung or answered nonsense.
    """
    job = ProfileJob(fp32, int8, operations, threads, choose_cpus(threads), inputs)
    task = Task(
        "vitlet.measure.operation_worker", job, OperationTimes, "onnxruntime", "profiling operations", MeasurementFailed
    )
    return run_task(task, silence_limit_s=600.0)
