"""Is what vitlet exports as fast as what the runtime's own documentation leads to?

For each engine, vitlet's export of a model and the documented path's (``documented/documented_engines.py``, from timm's
own model) are measured side by side by vitlet's protocol: fresh processes, in turn, pinned, the same threads.

    python benchmarks/documented_paths.py --model deit_small_patch16_224 --out benchmarks/results/documented-paths.json

A ratio above 1 says that vitlet's is faster. The bar is 0.95.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from vitlet.data.calibration import Calibration
from vitlet.engines.variants import export_variants, variants
from vitlet.measure.comparison import compare
from vitlet.measure.environment import default_threads, environment
from vitlet.measure.run import measure
from vitlet.measure.settings import MeasureSettings
from vitlet.measure.statistics import latency_summary
from vitlet.pipeline import load
from vitlet.records import Artifact, to_json
from vitlet.whole_file import put_whole

CLASSES = ("OnnxRuntime", "OpenVino", "ExecuTorch", "Inductor", "TorchAo")


def register(folder: Path) -> None:
    """Install the documented engines for this process and those that it starts."""
    source = Path(__file__).with_name("documented")
    info = folder / "documented_engines-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: documented-engines\nVersion: 1.0\n")
    lines = [f"documented-{name.lower()} = documented_engines:{name}" for name in CLASSES]
    (info / "entry_points.txt").write_text("[vitlet.engines]\n" + "\n".join(lines) + "\n")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), str(source), os.environ.get("PYTHONPATH", "")])
    sys.path[:0] = [str(folder), str(source)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="deit_small_patch16_224")
    parser.add_argument("--engines", default="onnxruntime,openvino,executorch,inductor,torchao")
    parser.add_argument("--visits", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        register(folder)
        classifier = load(options.model, random_weights=True)
        calibration = Calibration(classifier.image_spec, random_count=32, seed=1)
        settings = MeasureSettings(visits=options.visits, throughput_batch=0, streams=0, explain=False)
        for engine in options.engines.split(","):
            documented = variants([f"documented-{engine}"])
            own = variants([engine], [str(precision) for _, precision in documented])
            exported = export_variants(
                classifier, [*own, *documented], folder, lambda step: print(step.detail, flush=True),
                calibration=calibration,
            )  # fmt: skip
            done = {(row.engine, str(row.precision)): row for row in exported}
            for _, precision in documented:
                pair = [done[f"documented-{engine}", str(precision)], done[engine, str(precision)]]
                results.append({"engine": engine, "precision": str(precision), **against(pair, settings)})
                print(json.dumps(results[-1]), flush=True)
    if options.out:
        document = {"model": options.model, "environment": to_json(environment(default_threads())), "rows": results}
        put_whole(options.out, (json.dumps(document, indent=1) + "\n").encode())


def against(pair, settings: MeasureSettings) -> dict[str, object]:
    """Vitlet's (the second) against the documented path's (the first), measured in turn."""
    broken = [row for row in pair if not isinstance(row, Artifact)]
    if broken:
        return {"reason": "; ".join(f"{row.engine}: {row.reason}" for row in broken)}
    rows = [replace(row, logits_error=None) for row in measure(pair, None, settings)]
    broken = [row for row in rows if row.status != "ok"]
    if broken:
        return {"reason": "; ".join(f"{row.engine}: {row.reason}" for row in broken)}
    speed = compare(rows, answers_matter=False).speedups[1]
    return {
        "documented_ms": latency_summary(rows[0]).p50,
        "vitlet_ms": latency_summary(rows[1]).p50,
        "ratio": speed.ratio,
        "low": speed.low,
        "high": speed.high,
    }


if __name__ == "__main__":
    main()
