"""Does the search of ``vitlet compress`` find what trying every variant finds, and in how much less time?

For each model: ``compress`` with the search and ``compress --exhaustive``, timed as a whole; then what each of them
chose takes turns (``turns.py``), so that their speed is compared in the same weather.

    python benchmarks/search.py --out benchmarks/results/search.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from turns import Side, in_turns, interval

import vitlet
from vitlet.bundle.read import read_bundle
from vitlet.measure.environment import environment
from vitlet.measure.settings import MeasureSettings
from vitlet.records import to_json
from vitlet.whole_file import put_whole

MODELS = ("bundled", "deit_tiny_patch16_224", "deit_small_patch16_224")


def compressed(model: str, out: Path, threads: int, *, exhaustive: bool) -> dict:
    """Compress a model, and how long that took."""
    began = time.monotonic()
    done = vitlet.compress(
        model,
        out=out,
        random_weights=model != "bundled",
        settings=MeasureSettings(threads),
        exhaustive=exhaustive,
        check_source=False,
    )
    seconds = time.monotonic() - began
    rows = done.bench.measurements
    chosen = done.bundle.artifact
    how = "all of them" if exhaustive else "the search"
    measured = sum(row.status == "ok" for row in rows)
    print(
        f"{model}: {how} took {seconds:.0f} s, measured {measured}, chose {chosen.engine} {chosen.precision}",
        flush=True,
    )
    return {
        "model": model,
        "exhaustive": exhaustive,
        "seconds": seconds,
        "chosen": f"{chosen.engine} {chosen.precision}",
        "measured": measured,
        "left_out": sum(row.status == "left out" for row in rows),
        "variants": len(rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=1, help="1: search first; 2: also the other way round")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as name:
        for model in options.models:
            folder = Path(name) / model
            folder.mkdir()
            runs = [
                compressed(model, folder / f"{number}-{exhaustive}", options.threads, exhaustive=exhaustive)
                for number in range(options.repeats)
                for exhaustive in ((False, True) if number % 2 == 0 else (True, False))
            ]
            bundles = [read_bundle(folder / f"0-{exhaustive}") for exhaustive in (False, True)]
            sides = []
            for bundle in bundles:
                (bundle.path / "turns").mkdir()
                sides.append(Side(bundle.artifact, bundle.path / "turns", options.threads, runs=30))
            turns = in_turns(sides, options.rounds)
            for side in sides:
                side.close()
            ratios = np.array(turns[0]) / np.array(turns[1])
            ratio, (low, high) = float(np.median(ratios)), interval(ratios)
            share = sum(run["seconds"] for run in runs if not run["exhaustive"]) / sum(
                run["seconds"] for run in runs if run["exhaustive"]
            )
            print(
                f"{model}: {share:.2f} of the time; {ratio:.3f} ({low:.3f} to {high:.3f}) times the latency", flush=True
            )
            found.append(
                {
                    "model": model,
                    "runs": runs,
                    "turns_ms": turns,
                    "ratio": ratio,
                    "low": low,
                    "high": high,
                    "time": share,
                }
            )
            if options.out:  # after each model: the next one takes long
                whole = {"environment": to_json(environment(options.threads)), "models": found}
                put_whole(options.out, (json.dumps(whole, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
