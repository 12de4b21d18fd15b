"""What is told to a measuring process, and what it answers: values that travel as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vitlet.errors import InvalidValue
from vitlet.records import Artifact, Execution, ImageSpec


@dataclass(frozen=True)
class Timing:
    """When to stop warming up and when to stop timing, in one process.

    Warm-up: ``warm_up_runs`` runs and ``warm_up_s`` seconds at least, then on until two windows in
    a row have the same median, but never past ``warm_up_longest_s``.

    Timing: ``runs`` runs, then on until there are ``enough_runs`` or ``seconds`` have passed. A
    model so slow that this would take more than ``longest_s`` gets fewer runs.
    """

    runs: int = 32
    enough_runs: int = 331
    seconds: float = 1.5
    longest_s: float = 60.0
    warm_up_runs: int = 10
    warm_up_s: float = 1.0
    warm_up_longest_s: float = 8.0

    def __post_init__(self) -> None:
        if self.runs < 1 or self.warm_up_runs < 1:
            raise InvalidValue(f"timing needs at least 1 run and 1 warm-up run, not {self.runs}, {self.warm_up_runs}")


@dataclass(frozen=True)
class Inputs:
    """Where a measuring process gets its images from.

    ``pixels_path`` is a ``.npy`` file of uint8 [count, height, width, 3], made a model's input by
    ``spec``; without one, ``random_count`` standard normal images from ``seed`` stand in.
    ``encoded`` are some of the image files as they came, to time decoding with.
    """

    pixels_path: Path | None = None
    spec: ImageSpec | None = None
    random_count: int = 16
    seed: int = 0
    encoded: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if (self.pixels_path is None) != (self.spec is None):
            raise InvalidValue("pixels and their ImageSpec go together: give both or neither")
        if self.pixels_path is None and self.random_count < 1:
            raise InvalidValue(f"random_count is {self.random_count}; measuring needs at least 1 input")


@dataclass(frozen=True)
class Asked:
    """Inputs that are all answered, and the file where their logits go: ``.npy``, float32 [count, classes]."""

    inputs: Inputs
    logits_path: Path


@dataclass(frozen=True)
class Job:
    """One visit of one process to one artifact. ``cpus`` are the logical CPUs to pin it to.

    ``timing`` ``None`` times nothing; ``throughput_batch`` and ``streams`` ``None`` measure no throughput
    of batches and of sessions at once; ``explain`` asks the runtime what it really did;
    ``asked`` are answered, each input at batch 1, as deployed: dynamic quantization takes its range over
    the whole batch, so an image's logits depend on what it is batched with.
    """

    artifact: Artifact
    threads: int
    cpus: tuple[int, ...]
    inputs: Inputs
    timing: Timing | None = None
    throughput_batch: int | None = None
    streams: int | None = None
    explain: bool = False
    asked: tuple[Asked, ...] = ()


@dataclass(frozen=True)
class Visit:
    """What one process measured; ``None`` where it did not."""

    load_ms: float
    first_ms: float
    latency_ms: tuple[float, ...] = ()
    end_to_end_ms: tuple[float, ...] = ()
    peak_memory_bytes: int | None = None
    throughput_images_per_s: float | None = None
    streams_images_per_s: float | None = None
    execution: Execution | None = None
