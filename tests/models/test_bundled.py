"""The model that comes with vitlet loads, is small, and knows its images."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from vitlet.data.datasets import FASHION_MNIST_LABELS
from vitlet.data.preprocess import normalise
from vitlet.data.samples import bundled_images
from vitlet.errors import ModelNotFound
from vitlet.models import bundled
from vitlet.models.bundled import bundled_weights, load_bundled
from vitlet.records import VitArchitecture


def test_is_the_distilled_student():
    classifier = load_bundled()
    assert (classifier.reference, classifier.library) == ("bundled", "bundled")
    assert isinstance(classifier.architecture, VitArchitecture)
    assert classifier.architecture.distillation_token
    assert classifier.labels == FASHION_MNIST_LABELS
    spec = classifier.image_spec
    assert (spec.height, spec.width, spec.resize, spec.interpolation) == (28, 28, (28, 28), "bilinear")
    assert (spec.mean, spec.std) == ((0.286,) * 3, (0.353,) * 3)
    assert not classifier.module.training
    assert {p.dtype for p in classifier.module.parameters()} == {torch.float32}


def test_file_is_half_precision_and_small():
    assert bundled_weights().stat().st_size < 2_000_000
    with safe_open(bundled_weights(), framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


def test_answers_the_bundled_images_right():
    classifier = load_bundled()
    # The folders' names sort in another order than the labels; each holds 50 images of one class.
    by_name = {"".join(filter(str.isalnum, label)): index for index, label in enumerate(classifier.labels)}
    right = total = 0
    for folder in (p for p in bundled_images().iterdir() if p.is_dir()):
        label = by_name["".join(filter(str.isalnum, folder.name))]
        pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))])
        with torch.inference_mode():
            answers = classifier.module(torch.from_numpy(normalise(pixels, classifier.image_spec))).argmax(dim=1)
        right += int((answers == label).sum())
        total += len(answers)
    assert total == 500
    assert right / total >= 0.9  # 93.3 % of many images would be within 2.3 points of that on 500


def test_missing_file_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "bundled_weights", lambda: tmp_path / "bundled.safetensors")
    with pytest.raises(ModelNotFound, match="built without its bundled model"):
        load_bundled()
