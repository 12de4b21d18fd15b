"""Is what vitlet exports as fast as what the runtime's own documentation leads to?

For each engine, vitlet's export of a model and the documented path's (``documented/documented_engines.py``, from timm's
own model) take turns (``turns.py``): A B B A.

    python benchmarks/documented_paths.py --model deit_small_patch16_224 --out benchmarks/results/documented-paths.json

A ratio above 1 says that vitlet's is faster. The bar is 0.95.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from turns import Side, in_turns, interval

from vitlet.data.calibration import Calibration
from vitlet.engines.variants import export_variants, variants
from vitlet.measure.environment import default_threads, environment
from vitlet.pipeline import load
from vitlet.records import Artifact, to_json
from vitlet.whole_file import put_whole

DOCUMENTED = Path(__file__).with_name("documented")
CLASSES = ("Torch", "TorchScript", "Mobile", "Lite", "OnnxRuntime", "OpenVino", "ExecuTorch", "LiteRt", "Inductor")
CLASSES += ("TorchAo",)


def register(folder: Path) -> None:
    """Install the documented engines for this process and those that it starts."""
    info = folder / "documented_engines-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: documented-engines\nVersion: 1.0\n")
    lines = [f"documented-{name.lower()} = documented_engines:{name}" for name in CLASSES]
    (info / "entry_points.txt").write_text("[vitlet.engines]\n" + "\n".join(lines) + "\n")
    # ExecuTorch's exporter starts programs of its package by name.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), str(DOCUMENTED), os.environ.get("PYTHONPATH", "")])
    sys.path[:0] = [str(folder), str(DOCUMENTED)]


def against(documented, own, folder: Path, threads: int, rounds: int) -> dict[str, object]:
    """vitlet's against the documented path's, in turns."""
    broken = [row for row in (documented, own) if not isinstance(row, Artifact)]
    if broken:
        return {"reason": "; ".join(f"{row.engine}: {row.reason}" for row in broken)}
    try:
        sides = [Side(documented, folder, threads), Side(own, folder, threads)]
    except RuntimeError as error:
        return {"reason": str(error)}
    turns = in_turns(sides, rounds)
    for side in sides:
        side.close()
    ratios = np.array(turns[0]) / np.array(turns[1])
    low, high = interval(ratios)
    return {
        "documented_ms": float(np.median(turns[0])),
        "vitlet_ms": float(np.median(turns[1])),
        "ratio": float(np.median(ratios)),
        "low": low,
        "high": high,
        "turns_ms": turns,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="deit_small_patch16_224")
    parser.add_argument("--engines", default=",".join(name.lower() for name in CLASSES))
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    threads = default_threads()
    here = to_json(environment(threads))
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        register(folder)
        classifier = load(options.model, random_weights=True)
        calibration = Calibration(classifier.image_spec, random_count=32, seed=1)
        for engine in options.engines.split(","):
            documented = variants([f"documented-{engine}"])
            own = variants([engine], [str(precision) for _, precision in documented])
            exported = export_variants(
                classifier, [*own, *documented], folder, lambda step: print(step.detail, flush=True),
                calibration=calibration,
            )  # fmt: skip
            done = {(row.engine, str(row.precision)): row for row in exported}
            for _, precision in documented:
                pair = done[f"documented-{engine}", str(precision)], done[engine, str(precision)]
                results.append({"engine": engine, "precision": str(precision), "environment": here})
                results[-1].update(against(*pair, folder, threads, options.rounds))
                told = {key: value for key, value in results[-1].items() if key not in ("turns_ms", "environment")}
                print(told, flush=True)
    if options.out:
        # An engine measured again takes the place of its old rows; each row is a comparison within itself.
        before = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
        again = {row["engine"] for row in results}
        kept = [row for row in before if row["engine"] not in again]
        put_whole(options.out, (json.dumps({"model": options.model, "rows": kept + results}, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
