"""How far are the native engine's logits from fp32's, beside the other runtimes' dynamic int8?

No calibration: all of these quantize activations as they come. The bundled model answers real images (Fashion-MNIST's
test images); DeiT-S has random weights, several times, and answers standard normal noise. The error is the relative L2
distance of an image's logits from the fp32 model's in PyTorch; printed is the mean, beside the native engine's.

    python benchmarks/native_error.py --out benchmarks/results/native-error.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from vitlet.data.named import load_named
from vitlet.engines import engine
from vitlet.engines.variants import export_variants
from vitlet.measure.environment import environment
from vitlet.pipeline import load
from vitlet.records import Artifact, Classifier, Precision, to_json
from vitlet.whole_file import put_whole

#: How often, the weights of all but the bundled one being random, and how many images each time.
MODELS = {"bundled": (1, 1000), "deit_small_patch16_224": (4, 8)}
INT8 = Precision("int8-dynamic")
OWN = "native int8-dynamic"
VARIANTS = (
    ("torch", Precision("fp32")),
    ("native", INT8),
    ("openvino", INT8),
    ("onnxruntime", INT8),
    ("executorch", INT8),
    ("litert", INT8),
)
DATA = "torchvision:FashionMNIST"
BATCH = 8


def images_of(classifier: Classifier, model: str, count: int) -> np.ndarray:
    """[count, 3, height, width], normalised."""
    if model == "bundled":
        with tempfile.TemporaryDirectory() as folder:
            found = load_named(DATA, classifier.image_spec, classifier.labels, Path(folder), limit=count)
            return np.concatenate(list(found.batches(BATCH)))
    spec = classifier.image_spec
    return np.random.default_rng(0).standard_normal((count, 3, spec.height, spec.width)).astype(np.float32)


def logits_of(artifact: Artifact, images: np.ndarray) -> np.ndarray:
    session = engine(artifact.engine).open(artifact, threads=2)
    try:
        return np.concatenate([session.run(images[at : at + BATCH]) for at in range(0, len(images), BATCH)])
    finally:
        session.close()


def errors_of(model: str, seed: int, count: int) -> dict[str, np.ndarray]:
    """By variant, each image's error."""
    classifier = load(model, random_weights=model != "bundled", seed=seed)
    images = images_of(classifier, model, count)
    with tempfile.TemporaryDirectory() as folder:
        pairs = [(engine(name), precision) for name, precision in VARIANTS]
        exported = export_variants(classifier, pairs, Path(folder))
        for row in exported:
            if not isinstance(row, Artifact):
                raise SystemExit(f"{row.engine} {row.precision}: {row.reason}")
        logits = {f"{a.engine} {a.precision}": logits_of(a, images) for a in exported}
    wanted = logits.pop("torch fp32")
    size = np.linalg.norm(wanted, axis=1)
    return {name: np.linalg.norm(found - wanted, axis=1) / size for name, found in logits.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for model in options.models.split(","):
        times, count = MODELS[model]
        draws = [errors_of(model, seed, count) for seed in range(times)]
        found = {name: [float(np.mean(draw[name])) for draw in draws] for name in draws[0]}
        rows.append({"model": model, "images": count, "errors": found})
        print(f"{model}, {times} x {count} images:")
        for name, errors in sorted(found.items(), key=lambda item: np.mean(item[1])):
            beside = np.mean(errors) / np.mean(found[OWN])
            each = ", ".join(f"{error:.5f}" for error in errors)
            print(f"  {name:26s} {np.mean(errors):.5f}  {beside:.2f} times native's  ({each})", flush=True)
    if options.out:
        whole = {"environment": to_json(environment(2)), "rows": rows}
        put_whole(options.out, (json.dumps(whole, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
