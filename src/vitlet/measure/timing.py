"""The clock: warm up until steady, then time one call after another.

Follows MLPerf Inference's SingleStream scenario (batch 1, the next query starts when the last one
is answered; arXiv 1911.02549), with bounds on the total so that a slow model ends too.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Sequence
from itertools import cycle
from time import perf_counter_ns
from typing import TypeVar

import numpy as np

from vitlet.data.preprocess import preprocess
from vitlet.data.read import read_image
from vitlet.measure.job import Timing
from vitlet.records import ImageSpec

#: Two windows of warm-up runs are "the same" when their medians differ by less than this share.
STEADY = 0.05

Run = Callable[[np.ndarray], object]
_Input = TypeVar("_Input")


def warm_up(run: Run, images: Sequence[np.ndarray], timing: Timing) -> int:
    """Run until the latency is steady, within ``timing``'s bounds; return the number of runs."""
    start = perf_counter_ns()
    samples: list[int] = []
    for image in cycle(images):
        begin = perf_counter_ns()
        run(image)
        end = perf_counter_ns()
        samples.append(end - begin)
        elapsed_s = (end - start) / 1e9
        if elapsed_s >= timing.warm_up_longest_s:
            break
        if len(samples) >= timing.warm_up_runs and elapsed_s >= timing.warm_up_s and is_steady(samples):
            break
    return len(samples)


def is_steady(samples: Sequence[float]) -> bool:
    """Whether the last quarter (at least 5) of the samples has the median of the quarter before it."""
    window = max(5, len(samples) // 4)
    if len(samples) < 2 * window:
        return False
    before = statistics.median(samples[-2 * window : -window])
    last = statistics.median(samples[-window:])
    return abs(last - before) <= STEADY * before


def time_runs(run: Run, images: Sequence[np.ndarray], timing: Timing) -> tuple[float, ...]:
    """Time one call after another, cycling over ``images``; milliseconds, in order."""
    return _timed(run, images, timing)


def _timed(run: Callable[[_Input], object], inputs: Sequence[_Input], timing: Timing) -> tuple[float, ...]:
    """Garbage collection waits meanwhile: it would be charged to whichever call it falls into."""
    samples: list[int] = []
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        start = perf_counter_ns()
        for one in cycle(inputs):
            begin = perf_counter_ns()
            run(one)
            end = perf_counter_ns()
            samples.append(end - begin)
            if is_enough(len(samples), (end - start) / 1e9, timing):
                break
    finally:
        if collecting:
            gc.enable()
    return tuple(sample / 1e6 for sample in samples)


def time_end_to_end(run: Run, files: Sequence[bytes], spec: ImageSpec, timing: Timing) -> tuple[float, ...]:
    """Time from the bytes of an image file to logits: decode, resize, crop, normalise, run; milliseconds."""

    def answer(content: bytes) -> object:
        return run(preprocess(read_image(content, "image"), spec)[np.newaxis])

    for content in files[:3]:
        answer(content)
    return _timed(answer, files, timing)


def is_enough(runs: int, elapsed_s: float, timing: Timing) -> bool:
    """Whether timing may stop after so many runs and seconds; see ``Timing``."""
    if elapsed_s >= timing.longest_s:
        return True
    return runs >= timing.runs and (runs >= timing.enough_runs or elapsed_s >= timing.seconds)


def throughput(run: Run, images: Sequence[np.ndarray], batch: int) -> float:
    """Images per second at that batch size: the batch over the median time of a run.

    One run to warm up, then at least 3 runs and 1 second; a model so slow that these take more
    than 30 seconds gets fewer.
    """
    supply = cycle(images)
    stacked = np.concatenate([next(supply) for _ in range(batch)])
    limits = Timing(runs=3, enough_runs=1_000_000, seconds=1.0, longest_s=30.0)
    run(stacked)
    return batch / statistics.median(time_runs(run, [stacked], limits)) * 1000
