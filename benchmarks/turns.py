"""Artifacts that take turns: a process each, pinned to the same processors, a third of a second at a time.

Turns that short meet the same weather, so the ratio of one turn to its neighbour is steady where minutes apart it is
not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from vitlet.measure.cores import choose_cpus
from vitlet.records import Artifact, to_json

#: Longer than OpenMP's threads spin after a run (200 ms): the next process is to find the processors free.
PAUSE_S = 0.25


class Side:
    """A process that times slices of runs of one artifact."""

    def __init__(self, artifact: Artifact, folder: Path, threads: int, *, runs: int = 12, batch: int = 1) -> None:
        record = folder / f"{artifact.engine}-{artifact.precision}.json"
        record.write_text(json.dumps(to_json(artifact)))
        self.cpus = choose_cpus(threads)
        script = Path(__file__).with_name("side.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(record), str(threads), str(runs), str(batch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, self.cpus or os.sched_getaffinity(0)),
        )
        self._answer()

    def slice(self) -> float:
        """The median milliseconds of the runs of one turn."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        found = float(np.median(self._answer()))
        time.sleep(PAUSE_S)
        return found

    def _answer(self):
        # Runtimes print to standard output, too.
        for line in self.process.stdout:
            if line.startswith(("[", '"ready"')):
                return json.loads(line)
        raise RuntimeError(f"the process that runs the artifact ended with {self.process.wait()}")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)


def in_turns(sides: list, rounds: int) -> list[list[float]]:
    """The slices of every side, there and back again: A B C C B A ..."""
    turns: list[list[float]] = [[] for _ in sides]
    for number in range(rounds):
        places = range(len(sides))
        for place in places if number % 2 == 0 else reversed(places):
            turns[place].append(sides[place].slice())
    return turns


def interval(ratios: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    drawn = np.random.default_rng(0).choice(ratios, size=(4000, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), (2.5, 97.5))
    return float(low), float(high)
