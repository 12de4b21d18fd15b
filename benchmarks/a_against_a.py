"""A/A: measure one file against itself, again and again, and see how often vitlet would be fooled.

Each trial measures the same artifact as if it were two variants, by the protocol that `vitlet bench` uses, and
asks whether the stated 95 % interval of their ratio holds 1, which is the truth. It should 19 times in
20. Also told: how wide the interval is, since an interval that is wide enough holds anything.

    python benchmarks/a_against_a.py --trials 20 --out benchmarks/results/a-against-a.json

Run it on an otherwise idle machine; it takes some 20 seconds a trial.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from vitlet.engines.variants import export_one, variants
from vitlet.measure.comparison import compare
from vitlet.measure.environment import default_threads, environment
from vitlet.measure.run import measure
from vitlet.measure.settings import MeasureSettings
from vitlet.pipeline import load
from vitlet.records import to_json
from vitlet.whole_file import put_whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="deit_tiny_patch16_224")
    parser.add_argument(
        "--variants", default="torch/fp32,torchscript/int8-dynamic-x86,onnxruntime/int8-dynamic,lite/fp32"
    )
    parser.add_argument("--trials", type=int, default=20, help="over all variants together")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    classifier = load(options.model, random_weights=True)
    settings = MeasureSettings(throughput_batch=0, streams=0, explain=False)
    names = options.variants.split(",")
    trials = []
    with tempfile.TemporaryDirectory() as folder:
        artifacts = {}
        for name in names:
            engine, precision = name.split("/")
            (variant,) = variants([engine], [precision])
            artifacts[name] = export_one(classifier, variant, Path(folder) / name.replace("/", "-"))
        for number in range(options.trials):
            name = names[number % len(names)]
            found = compare(measure([artifacts[name], artifacts[name]], None, settings), answers_matter=False)
            speed = found.speedups[1]
            assert speed is not None
            held = speed.low <= 1 <= speed.high
            trials.append({"variant": name, "ratio": speed.ratio, "low": speed.low, "high": speed.high, "held": held})
            print(f"{number + 1:3d} {name:32s} {speed.ratio:.3f} ({speed.low:.3f} to {speed.high:.3f})", flush=True)
    held = sum(trial["held"] for trial in trials)
    width = float(np.median([trial["high"] / trial["low"] - 1 for trial in trials]) / 2)
    off = float(np.median([abs(trial["ratio"] - 1) for trial in trials]))
    print(f"the interval held 1 in {held} of {len(trials)} trials; half its width {width:.1%}, ratio off by {off:.1%}")
    if options.out:
        document = {
            "model": options.model,
            "environment": to_json(environment(default_threads())),
            "held": held,
            "trials": trials,
            "median_half_width": width,
            "median_ratio_error": off,
        }
        put_whole(options.out, (json.dumps(document, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
