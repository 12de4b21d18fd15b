"""Is a small student in int8 better to ship than its teacher? Accuracy, size and latency of both, side by side.

Both are exported to the fastest runtimes, in float and int8 (a teacher that is a convolutional network knows fewer
precisions); all files take turns at one image (``turns.py``) and answer all test images of Fashion-MNIST.

    python benchmarks/student_int8.py --teacher benchmarks/models/fashion-mnist-teacher.safetensors --student bundled \
        --out benchmarks/results/student-int8.json

A ratio below 1 says that the variant is faster than the teacher's fastest float variant.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from turns import Side, in_turns, interval

from vitlet.data.calibration import Calibration
from vitlet.data.imageset import ImageSet
from vitlet.data.named import load_named
from vitlet.engines import engine
from vitlet.engines.variants import export_variants
from vitlet.measure.environment import environment
from vitlet.pipeline import load
from vitlet.records import Artifact, Classifier, Precision, to_json
from vitlet.whole_file import put_whole

DATA = "torchvision:FashionMNIST"
BATCH = 8
#: Those that ``vitlet bench`` finds fastest of their kind.
VARIANTS = {
    "teacher": (
        ("openvino", "fp32"),
        ("openvino", "bf16"),
        ("openvino", "int8-static"),
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8-static"),
    ),
    "student": (
        ("openvino", "fp32"),
        ("openvino", "bf16"),
        ("openvino", "int8-static"),
        ("openvino", "int8-static-bf16"),
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8-static"),
        ("native", "int8-dynamic"),
    ),
}


def exported(classifier: Classifier, role: str, folder: Path) -> list[Artifact]:
    """The variants of that role, those that this machine has."""
    scratch = folder / "calibration"
    scratch.mkdir(parents=True)
    learned = load_named(DATA, classifier.image_spec, classifier.labels, scratch, split="train", limit=128)
    pairs = [(engine(name), Precision(precision)) for name, precision in VARIANTS[role]]
    calibration = Calibration(learned.spec, learned.pixels_path, tuple(range(learned.count)))
    rows = export_variants(classifier, pairs, folder, calibration=calibration)
    for row in rows:
        if not isinstance(row, Artifact):
            print(f"{role} on {row.engine} {row.precision}: {row.reason}", flush=True)
    return [row for row in rows if isinstance(row, Artifact)]


def accuracy(artifact: Artifact, images: ImageSet, threads: int) -> float:
    session = engine(artifact.engine).open(artifact, threads=threads)
    try:
        found = np.concatenate([session.run(batch).argmax(axis=1) for batch in images.batches(BATCH)])
    finally:
        session.close()
    return float(np.mean(found == np.array(images.labels)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--student", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--limit", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows, sides = [], []
    with tempfile.TemporaryDirectory() as name:
        for role in VARIANTS:
            folder = Path(name) / role
            classifier = load(getattr(options, role))
            artifacts = exported(classifier, role, folder)
            images = load_named(DATA, classifier.image_spec, classifier.labels, folder, limit=options.limit)
            for artifact in artifacts:
                row = {"model": role, "engine": artifact.engine, "precision": str(artifact.precision)}
                row["bytes"] = artifact.size_bytes
                row["accuracy"] = accuracy(artifact, images, options.threads)
                rows.append(row)
                sides.append(Side(artifact, folder, options.threads, runs=30))
        for row, times in zip(rows, in_turns(sides, options.rounds), strict=True):
            row["turns_ms"] = times
            row["ms"] = float(np.median(times))
        for side in sides:
            side.close()
    floats = [row for row in rows if row["model"] == "teacher" and not row["precision"].startswith("int8")]
    beside = min(floats, key=lambda row: row["ms"])
    for row in rows:
        ratios = np.array(row["turns_ms"]) / np.array(beside["turns_ms"])
        row["ratio"], (row["low"], row["high"]) = float(np.median(ratios)), interval(ratios)
        told = f"{row['model']} {row['engine']} {row['precision']}: {100 * row['accuracy']:.2f} %, "
        told += f"{row['bytes'] / 1e6:.2f} MB, {row['ms']:.3f} ms, "
        print(told + f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f}) times the teacher's")
    if options.out:
        whole = {"images": options.limit, "environment": to_json(environment(options.threads)), "rows": rows}
        put_whole(options.out, (json.dumps(whole, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
