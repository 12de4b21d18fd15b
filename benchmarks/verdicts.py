"""Do the verdicts of `--max-drop` say what the full test set says? The bundled model in int8, Fashion-MNIST.

- PASS: what `compress --max-drop 0.5` chose, by the images that it kept back; and again by all 10,000.
- FAIL: the same with the scales of one layer's weights doubled, by as many images.
- INCONCLUSIVE: 50 images; then with as many more as it said would decide.

    python benchmarks/verdicts.py --out benchmarks/results/verdicts.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

import vitlet
from vitlet.bundle.read import read_bundle
from vitlet.certify.certificate import Certificate, certify
from vitlet.certify.sentences import sentence
from vitlet.data.imageset import ImageSet
from vitlet.data.named import load_named
from vitlet.engines import engine
from vitlet.engines.onnxruntime.file import sealed
from vitlet.engines.variants import BASELINE, export_one
from vitlet.measure.environment import environment
from vitlet.measure.run import evaluate
from vitlet.measure.settings import MeasureSettings
from vitlet.records import Artifact, to_json
from vitlet.whole_file import put_whole

DATA, LIMIT = "torchvision:FashionMNIST", 0.005


def logits_of(artifact: Artifact, images: ImageSet, folder: Path) -> np.ndarray:
    evaluate(artifact, images, 1, logits_path=folder / "logits.npy")
    return np.load(folder / "logits.npy")


def sabotaged(artifact: Artifact, folder: Path) -> tuple[Artifact, str]:
    """A copy with the scales of the weights of the linear in the middle doubled."""
    model = onnx.load(artifact.path)
    scales = [tensor for tensor in model.graph.initializer if tensor.name.endswith("/weight_scale")]
    victim = scales[len(scales) // 2]
    victim.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(victim), victim.name))
    del model.metadata_props[:]
    size = (artifact.height, artifact.width, artifact.classes)
    content = sealed(model.SerializeToString(), artifact.engine, artifact.precision, *size, weight_bits=8)
    path = folder / "sabotaged.onnx"
    path.write_bytes(content)
    return replace(artifact, path=path, size_bytes=len(content)), victim.name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    found: dict[str, Certificate] = {}

    def tell(name: str, certificate: Certificate | None) -> Certificate:
        assert certificate is not None
        found[name] = certificate
        print(f"{name}: {sentence(certificate)}", flush=True)
        return certificate

    model = vitlet.load("bundled")
    with tempfile.TemporaryDirectory(prefix="vitlet-") as scratch:
        folder = Path(scratch)
        done = vitlet.compress(
            model,
            data=[DATA],
            out=folder / "small.vitlet",
            engine_names=["onnxruntime"],
            settings=MeasureSettings(2, quick=True),
            max_drop=LIMIT,
            certify_limit=None,
        )
        tell("kept back", done.certificate)
        images = load_named(DATA, model.image_spec, model.labels, folder / "test")
        artifact = read_bundle(folder / "small.vitlet").artifact
        baseline = export_one(model, (engine(BASELINE[0]), BASELINE[1]), folder / "baseline")
        original, small = (logits_of(one, images, folder) for one in (baseline, artifact))
        tell("all test images", certify(small, images.labels, original, limit=LIMIT))
        broken, victim = sabotaged(artifact, folder)
        wrong = logits_of(broken, images, folder)
        tell(f"sabotaged ({victim} doubled)", certify(wrong, images.labels, original, limit=LIMIT))
        labels = np.asarray(images.labels)
        order = np.random.default_rng(0).permutation(images.count)
        for name, answers in (("small", small), ("sabotaged", wrong)):
            count = 50
            for _ in range(4):  # the first estimate is of 50 images
                some = order[:count]
                told = tell(
                    f"{name}, {count} images", certify(answers[some], labels[some], original[some], limit=LIMIT)
                )
                if told.outcome != "inconclusive" or told.more_images is None:
                    break
                count = min(images.count, count + told.more_images)
    if chosen.out:
        record = {"limit": LIMIT, "certificates": to_json(found), "environment": to_json(environment(2))}
        put_whole(chosen.out, (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
