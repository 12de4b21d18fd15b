"""What PyTorch's profiler says of a session: operators, their arithmetic and their time."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from vitlet.engines.quiet import without_stderr
from vitlet.records import Arithmetic, Artifact, Execution, OperatorUse

if TYPE_CHECKING:
    import numpy as np

    from vitlet.engines import Session

_LEAST_RUNS, _MOST_RUNS = 4, 10
_ENOUGH_SECONDS = 1.5
#: Below this share of an inference, an operator that only looks at memory is left out.
_WORTH_TELLING = 0.01


@dataclass
class _Seen:
    """One operator or kernel: number and times of each run, in ms, its own and with all it calls."""

    counts: list[int] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    has_workers: bool = False
    dtypes: tuple[str, ...] = ()


def explain_session(session: Session, artifact: Artifact, images: np.ndarray) -> Execution:
    """Run ``images`` float32 [1, 3, height, width] up to ten times under PyTorch's profiler, and close
    ``session``.

    An operator's time is its own, without that of operators it calls, and the median of the runs. One
    that does little but call others is left out, as are views, unless they take time.

    Raises:
        VitletError: as ``Session.run``.
    """
    from vitlet.engines.torch.fusions import fusions_and_notes

    try:
        for _ in range(2):
            session.run(images)
        seen, runs = _profiled(session, images)
    finally:
        session.close()
    operators = _operators(seen, artifact)
    fusions, notes = fusions_and_notes(operators, {name: _count(kind) for name, kind in seen.items()}, artifact)
    return Execution(operators, f"PyTorch's profile of {runs} runs", fusions, {}, notes)


def _operators(seen: Mapping[str, _Seen], artifact: Artifact) -> tuple[OperatorUse, ...]:
    from vitlet.engines.torch.operators import arithmetic_of, plain_name

    whole_ms = sum(median(kind.own) for kind in seen.values())
    counts: Counter[tuple[str, Arithmetic]] = Counter()
    times: dict[tuple[str, Arithmetic], float] = defaultdict(float)
    for name, kind in seen.items():
        if _is_worth_telling(name, kind, whole_ms):
            key = (plain_name(name), arithmetic_of(name, kind.dtypes, artifact.precision))
            counts[key] += _count(kind)
            times[key] += median(kind.own)
    # On a GPU these are times of launching and not of computing.
    told = artifact.device != "cuda"
    found = (OperatorUse(*key, count, times[key] if told else None) for key, count in counts.items())
    return tuple(sorted(found, key=lambda operator: (-(operator.time_ms or 0.0), -operator.count, operator.name)))


def _count(kind: _Seen) -> int:
    return max(1, round(median(kind.counts)))


def _is_worth_telling(name: str, kind: _Seen, whole_ms: float) -> bool:
    from vitlet.engines.torch.operators import VIEWS

    time_ms = median(kind.own)
    if name in VIEWS:
        return time_ms > _WORTH_TELLING * whole_ms
    # A quantized linear calls what quantizes its input, and yet does most of the work.
    return not kind.has_workers or time_ms > 0.5 * median(kind.whole)


def _profiled(session: Session, images: np.ndarray) -> tuple[Mapping[str, _Seen], int]:
    """Every operator that the runs had, by name, and the number of runs."""
    from torch.autograd.profiler import profile

    seen: dict[str, _Seen] = defaultdict(_Seen)
    start = time.monotonic()
    runs = 0
    while runs < _LEAST_RUNS or (runs < _MOST_RUNS and time.monotonic() - start < _ENOUGH_SECONDS):
        # The profiler's library says past Python that it starts, stops and finds no GPU.
        with without_stderr(), profile(use_kineto=False, record_shapes=True) as profiler:
            session.run(images)
        _add_run(seen, profiler)
        runs += 1
    return dict(seen), runs


def _add_run(seen: dict[str, _Seen], profiler: Any) -> None:
    from vitlet.engines.torch.operators import VIEWS, instance_name

    counts: Counter[str] = Counter()
    own: dict[str, float] = defaultdict(float)
    whole: dict[str, float] = defaultdict(float)
    for event in profiler.function_events or ():
        name = instance_name(event.name)
        counts[name] += 1
        own[name] += event.self_cpu_time_total / 1e3
        whole[name] += event.cpu_time_total / 1e3
        called = {child.name for child in event.cpu_children}
        seen[name].has_workers |= bool(called - VIEWS - {"aten::copy_"})
    for name, count in counts.items():
        seen[name].counts.append(count)
        seen[name].own.append(own[name])
        seen[name].whole.append(whole[name])
    # The types of the inputs, which only the profiler's raw events tell.
    for event in profiler.kineto_results.events():
        kind = seen.get(instance_name(event.name()))
        if kind is not None:  # PyTorch keeps its own bookkeeping out of ``function_events``
            kind.dtypes = kind.dtypes or tuple(event.dtypes())
