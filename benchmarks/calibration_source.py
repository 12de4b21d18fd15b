"""What static quantization loses that learned its ranges from other images than the model is for: the user's own,
pictures that vitlet makes (``--data none``), and noise. The bundled model on all test images of Fashion-MNIST.

    python benchmarks/calibration_source.py --out benchmarks/results/calibration-source.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

import vitlet
from vitlet.data.calibration import ENOUGH, Calibration, calibration_of
from vitlet.data.made import make_images
from vitlet.data.named import load_named
from vitlet.engines import engine
from vitlet.engines.variants import BASELINE, export_one
from vitlet.measure.environment import environment
from vitlet.measure.run import evaluate
from vitlet.records import Precision, to_json
from vitlet.whole_file import put_whole

DATA = "torchvision:FashionMNIST"
ENGINES = ("onnxruntime", "openvino", "inductor", "executorch", "litert")


def sources(model: vitlet.Classifier, folder: Path) -> dict[str, Calibration]:
    """As many images of each kind."""
    spec, labels = model.image_spec, model.labels
    own = load_named(DATA, spec, labels, folder / "own", split="train", limit=ENOUGH)
    made = make_images(spec, folder / "made", split="train", limit=ENOUGH)
    # Standard normal after normalisation, as a tool without images feeds it.
    noise = Calibration(spec, random_count=ENOUGH, seed=1)
    return {"training images": calibration_of(own), "made images": calibration_of(made), "noise": noise}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    model, rows = vitlet.load("bundled"), []
    with tempfile.TemporaryDirectory(prefix="vitlet-") as scratch:
        folder = Path(scratch)
        test = load_named(DATA, model.image_spec, model.labels, folder / "test", limit=chosen.limit)
        baseline = export_one(model, (engine(BASELINE[0]), BASELINE[1]), folder / "baseline")
        evaluate(baseline, test, 1, logits_path=folder / "reference.npy")
        reference = np.load(folder / "reference.npy")
        for name in ENGINES:
            if not engine(name).available().ok:
                continue
            for source, calibration in sources(model, folder / name).items():
                artifact = export_one(
                    model,
                    (engine(name), Precision("int8-static")),
                    folder / f"{name} {source}",
                    calibration=calibration,
                )
                row = evaluate(artifact, test, 1, reference_logits=reference)
                found = {"engine": name, "source": source, "top1": row.top1, "agreement": row.agreement}
                rows.append({**found, "logits_error": row.logits_error})
                print(
                    f"{name}, {source}: top-1 {100 * row.top1:.2f} %, same answer {100 * row.agreement:.2f} %, "
                    f"logits {100 * row.logits_error:.2f} % off",
                    flush=True,
                )
    if chosen.out:
        record = {"images": test.count, "environment": to_json(environment(1)), "rows": rows}
        put_whole(chosen.out, (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
