"""How long and how often to measure."""

from __future__ import annotations

from dataclasses import dataclass, field

from vitlet.errors import InvalidValue
from vitlet.measure.cores import choose_cpus, default_threads
from vitlet.measure.job import Timing
from vitlet.measure.statistics import MINIMUM_FOR_P90, MINIMUM_FOR_P99

#: Timed runs and visits of ``quick``.
_QUICK_RUNS = 16
_QUICK_VISITS = 1


@dataclass(frozen=True)
class MeasureSettings:
    """How to measure.

    ``threads`` each run uses, pinned to as many CPUs. ``runs`` are timed at least, over all visits
    (default 64, the fewest from which p90 can be told; a fast model gets more). ``visits`` are the
    processes per variant (default 2). ``throughput_batch`` is the images per batch for
    throughput, 0 for none; ``streams`` the sessions at once for it, each with one thread (default: as
    many as ``threads``, none if that is 1). ``explain`` asks every runtime what it really did (default:
    unless ``quick``).
    ``random_inputs`` drawn from ``seed`` stand in where there are no
    images. ``silence_limit_s`` without a sign of life is a failure. ``quick`` is for people in a
    hurry: 16 runs in one visit, and the record is marked so.
    """

    threads: int = field(default_factory=default_threads)
    runs: int | None = None
    visits: int | None = None
    throughput_batch: int = 8
    streams: int | None = None
    explain: bool | None = None
    random_inputs: int = 16
    seed: int = 0
    silence_limit_s: float = 600.0
    quick: bool = False

    def __post_init__(self) -> None:
        choose_cpus(self.threads)
        least_runs = 1 if self.quick else MINIMUM_FOR_P90
        if self.runs is not None and self.runs < least_runs:
            hint = "" if self.quick else ", or measure quickly and have the record marked so"
            raise InvalidValue(f"runs is {self.runs}; time at least {least_runs}{hint}")
        if self.visits is not None and (self.visits < 1 or (self.visits % 2 and not self.quick)):
            raise InvalidValue(f"visits is {self.visits}; variants are visited A B B A, so give an even number")
        if not 0 <= self.throughput_batch <= 4096:
            raise InvalidValue(f"throughput_batch is {self.throughput_batch}; it must be 0 (none) to 4096")
        if self.streams is None:
            object.__setattr__(self, "streams", 0 if self.quick or self.threads < 2 else self.threads)
        if self.explain is None:
            object.__setattr__(self, "explain", not self.quick)
        if not 0 <= (self.streams or 0) <= 256:
            raise InvalidValue(f"streams is {self.streams}; it must be 0 (none) to 256")
        if not 8 <= self.random_inputs <= 4096:
            raise InvalidValue(f"random_inputs is {self.random_inputs}; it must be 8 to 4096")
        if not self.silence_limit_s > 0:
            raise InvalidValue(f"silence_limit_s is {self.silence_limit_s}; it must be above 0 seconds")

    @property
    def visit_count(self) -> int:
        """Processes per variant."""
        return self.visits or (_QUICK_VISITS if self.quick else 2)

    @property
    def timing(self) -> Timing:
        """What one visit does."""
        runs = self.runs or (_QUICK_RUNS if self.quick else MINIMUM_FOR_P90)
        each = -(-runs // self.visit_count)
        if self.quick:
            return Timing(each, each, 0.0, 20.0, warm_up_runs=3, warm_up_s=0.2, warm_up_longest_s=3.0)
        return Timing(each, max(each, -(-MINIMUM_FOR_P99 // self.visit_count)))
