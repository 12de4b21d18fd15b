"""One of the processes that take turns: opens an artifact, then times a slice of runs for each line on standard input.

    python side.py ARTIFACT.json THREADS RUNS BATCH

Answers with a line of JSON for each: the milliseconds of the runs. The first runs of a slice are not told, since the
other processes' threads may still be spinning.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from vitlet.engines import engine
from vitlet.records import Artifact, from_json


def main() -> None:
    artifact = from_json(json.loads(Path(sys.argv[1]).read_text()), Artifact)
    threads, runs, batch = map(int, sys.argv[2:])
    session = engine(artifact.engine).open(artifact, threads=threads)
    generator = np.random.default_rng(0)
    images = generator.standard_normal((batch, 3, artifact.height, artifact.width)).astype(np.float32)
    # Runs that are not told: the first of all, and those of a slice while other processes' threads may still spin.
    untold = 3 if batch == 1 else 1
    for _ in range(10 if batch == 1 else 2):
        session.run(images)
    print(json.dumps("ready"), flush=True)
    for _ in sys.stdin:
        samples = []
        for _ in range(untold + runs):
            begin = time.perf_counter_ns()
            session.run(images)
            samples.append((time.perf_counter_ns() - begin) / 1e6)
        print(json.dumps(samples[untold:]), flush=True)


if __name__ == "__main__":
    main()
