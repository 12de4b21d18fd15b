"""Whether the model answers here as it did where it was made, and as fast."""

from __future__ import annotations

import math
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

Answer = Callable[[np.ndarray], np.ndarray]
"""images: float32 [1, 3, height, width] -> logits: float32 [1, classes]"""

#: What is taken for noise between two machines of one kind, at least.
LEAST_NOISE = 0.10
_LONGEST_TIMING_S = 20.0
_INT8_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


@dataclass(frozen=True)
class Answers:
    """How far the logits of each image are from the golden ones, ``distances`` (relative L2), and from the original
    model's (``None`` without them); ``changed`` are (image, golden class, class here) where another class is first,
    ``near_ties`` those of them whose two classes were as good as equal to begin with.
    """

    distances: tuple[float, ...]
    from_original: Optional[float]
    changed: tuple[tuple[int, int, int], ...]
    near_ties: tuple[tuple[int, int, int], ...]

    @property
    def largest(self) -> float:
        return max(self.distances)


def compare_answers(here: np.ndarray, golden: np.ndarray, original: Optional[np.ndarray], tolerance: float) -> Answers:
    """Logits float32 [images, classes] of the runtime here against the golden ones, and the original model's.

    A changed first class counts as a near tie if the golden lead of the one over the other is no more than logits
    that moved by ``tolerance`` make up for: three times the root mean square of such a move.
    """
    changed: list[tuple[int, int, int]] = []
    ties: list[tuple[int, int, int]] = []
    for image, (mine, theirs) in enumerate(zip(here, golden)):
        now, then = int(mine.argmax()), int(theirs.argmax())
        if now == then:
            continue
        lead = float(theirs[then] - theirs[now])
        move = tolerance * float(np.linalg.norm(theirs)) / math.sqrt(len(theirs))
        (ties if lead <= 3 * move else changed).append((image, then, now))
    far = tuple(_distance(mine, theirs) for mine, theirs in zip(here, golden))
    return Answers(far, None if original is None else _distance(here, original), tuple(changed), tuple(ties))


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """Relative L2 distance: ``norm(one - other) / norm(other)``; infinite where ``one`` is not finite."""
    if not np.isfinite(one).all():
        return math.inf
    apart = float(np.linalg.norm(one.astype(np.float64) - other))
    return apart / max(float(np.linalg.norm(other.astype(np.float64))), 1e-12)


@dataclass(frozen=True)
class Speed:
    """Median latency of one image here, and where it was certified; from ``slow_ms`` on it is slower for certain."""

    here_ms: float
    certified_ms: float
    slow_ms: float
    runs: int

    @property
    def is_slower(self) -> bool:
        return self.here_ms > self.slow_ms


def measure_speed(answer: Answer, inputs: Sequence[np.ndarray]) -> tuple[float, int]:
    """Median milliseconds of one image in, logits out; and the number of runs. Warms up for a second at least.

    The clock is the simple part of vitlet's own (``vitlet bench``): it tells a machine that is slower by half, not
    one that is slower by a hundredth.
    """
    begin = time.perf_counter()
    warm = 0
    while warm < 5 or (time.perf_counter() - begin < 1 and warm < 500):
        answer(inputs[warm % len(inputs)])
        warm += 1
    samples: list[float] = []
    begin = time.perf_counter()
    while len(samples) < 32 or (time.perf_counter() - begin < 1 and len(samples) < 300):
        start = time.perf_counter()
        answer(inputs[len(samples) % len(inputs)])
        samples.append(1000 * (time.perf_counter() - start))
        if time.perf_counter() - begin > _LONGEST_TIMING_S:
            break
    return statistics.median(samples), len(samples)


def certified_latency(manifest: Mapping[str, Any]) -> Optional[tuple[float, float]]:
    """(median milliseconds, from where on it is slower) of the chosen variant; ``None`` if it was not timed.

    The limit is the slowest visit's median, and the noise between two measurements of one file on top: as large as it
    was found then, and a tenth at least.
    """
    try:
        visits = [visit for visit in manifest["measurements"][manifest["chosen"]]["latency_samples_ms"] if visit]
        slowest = max(float(statistics.median(visit)) for visit in visits)
        noise = max(LEAST_NOISE, float(manifest["golden"].get("noise") or 0))
        return float(statistics.median([sample for visit in visits for sample in visit])), slowest * (1 + noise)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def missing_instructions(environment: Mapping[str, Any], root: Path = Path("/")) -> list[str]:
    """Instruction sets for int8 products that the processor had where the bundle was made, and this one has not."""
    try:
        known = (root / "proc/cpuinfo").read_text(errors="replace").lower()
    except OSError:
        return []
    had = [name for name in environment.get("instruction_sets", ()) if name in _INT8_PRODUCTS]
    return [name for name in had if name not in known.split()]


def other_versions(environment: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """What is another version here than where the bundle was made, of Python and these packages, in words."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    packages = environment.get("packages", {})
    for name in names:
        try:
            here = version(name)
        except PackageNotFoundError:
            continue
        if name in packages and here != packages[name]:
            found.append(f"{name} {here} here, {packages[name]} when it was made")
    machine = platform.machine()
    if machine != environment.get("architecture"):
        found.append(f"a processor of the kind {machine} here, {environment.get('architecture')} when it was made")
    return found
