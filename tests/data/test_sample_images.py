"""The bundled images are what their README says they are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitlet.data.datasets import FASHION_MNIST_LABELS, load_dataset
from vitlet.data.labels import match_labels
from vitlet.data.samples import bundled_images

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def test_fifty_gray_images_of_each_class_and_every_folder_has_its_label():
    folders = sorted(p.name for p in bundled_images().iterdir() if p.is_dir() and p.name != "__pycache__")
    matched = match_labels(folders, FASHION_MNIST_LABELS)
    assert matched.note == ""
    assert sorted(matched.indices.values()) == list(range(10))
    for folder in folders:
        files = sorted((bundled_images() / folder).iterdir())
        assert len(files) == 50
        with Image.open(files[0]) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "L", (28, 28))


def test_they_stay_small_and_carry_their_licence():
    files = [p for p in bundled_images().rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 500_000
    assert "Zalando" in (bundled_images() / "README.md").read_text(encoding="utf-8")


@pytest.mark.real
@pytest.mark.skipif(not DEBIAN.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_they_are_the_first_fifty_of_each_class_unchanged():
    test = load_dataset("torchvision:FashionMNIST", "test")
    indices = match_labels([p.name for p in bundled_images().iterdir() if p.is_dir()], FASHION_MNIST_LABELS).indices
    for folder, label in indices.items():
        files = sorted((bundled_images() / folder).glob("*.png"))
        assert [int(p.stem) for p in files] == np.flatnonzero(test.labels == label)[:50].tolist()
        for path in files:
            np.testing.assert_array_equal(np.asarray(Image.open(path)), test.pixels[int(path.stem)])
