"""Named data sets as the images that are measured."""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitlet.data.fashion_mnist import FASHION_MNIST_LABELS
from vitlet.data.gather import Wanted, gather
from vitlet.data.imageset import Skipped
from vitlet.data.named import is_named, load_named
from vitlet.data.preprocess import crop_pixels
from vitlet.errors import InvalidValue, NoImages
from vitlet.records import ImageSpec, Progress

Picture = Callable[..., Image.Image]

SPEC = ImageSpec(12, 12, 14)
FASHION = "torchvision:FashionMNIST"
PETS = "torchvision:OxfordIIITPet"
BREEDS = ("Abyssinian", "Beagle")


def idx(values: np.ndarray) -> bytes:
    return gzip.compress(
        bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    )


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """40 test images and 200 training images where the Debian package has them; the pixels of the former."""
    pixels = {
        stem: np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        for stem, count in (("t10k", 40), ("train", 200))
    }
    for stem, values in pixels.items():
        (tmp_path / f"{stem}-images-idx3-ubyte.gz").write_bytes(idx(values))
        (tmp_path / f"{stem}-labels-idx1-ubyte.gz").write_bytes(idx(np.arange(len(values), dtype=np.uint8) % 10))
    monkeypatch.setattr("vitlet.data.fashion_mnist._DEBIAN", tmp_path)
    return pixels["t10k"]


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Picture) -> Path:
    """The folder of 20 images for training and for testing, of two breeds in turn, in the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "vitlet" / "datasets" / "oxford-iiit-pet"
    for name in ("images", "annotations"):
        (folder / name).mkdir(parents=True)
    for split, first in (("trainval", 100), ("test", 0)):
        names = [f"{BREEDS[index % 2]}_{first + index}" for index in range(20)]
        for index, name in enumerate(names):
            picture(seed=first + index).save(folder / "images" / f"{name}.jpg", "PNG")
        lines = [f"{name} {1 + index % 2} 1 1\n" for index, name in enumerate(names)]
        (folder / "annotations" / f"{split}.txt").write_text("".join(lines))
    return folder / "images"


def test_names_are_told_from_paths() -> None:
    assert is_named([FASHION])
    assert is_named(["torchvision:ImageNet"])
    assert is_named(["hf:owner/name@config"])
    assert is_named(["torchvision:Misspelt"])  # and loading it says what there is, instead of that no such file exists
    assert not is_named([FASHION, FASHION])
    assert not is_named(["photos"])
    assert not is_named([])


def test_all_images_of_a_split(fashion: np.ndarray, tmp_path: Path) -> None:
    images = load_named(FASHION, SPEC, FASHION_MNIST_LABELS, tmp_path / "work")
    assert images.labels == tuple(range(10)) * 4
    assert (images.names[0], images.names[39]) == (f"{FASHION}/test/0", f"{FASHION}/test/39")
    assert (images.skipped, images.note) == ((), "")
    expected = [crop_pixels(Image.fromarray(one).convert("RGB"), SPEC) for one in fashion]
    pixels = np.load(images.pixels_path)
    np.testing.assert_array_equal(pixels, expected)
    assert images.digest == hashlib.sha256(pixels.tobytes()).hexdigest()
    assert load_named(FASHION, SPEC, FASHION_MNIST_LABELS, tmp_path, split="train").count == 200


@pytest.mark.usefixtures("fashion")
def test_a_limit_takes_a_sample_that_is_the_same_for_a_seed(tmp_path: Path) -> None:
    first = load_named(FASHION, SPEC, FASHION_MNIST_LABELS, tmp_path, limit=15, seed=3)
    numbers = [int(name.rsplit("/", 1)[1]) for name in first.names]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 15
    # The sample that recorded accuracies were measured on.
    assert numbers == np.sort(np.random.default_rng(3).choice(40, 15, replace=False)).tolist()
    assert load_named(FASHION, SPEC, FASHION_MNIST_LABELS, tmp_path, limit=15, seed=4).names != first.names
    assert load_named(FASHION, SPEC, FASHION_MNIST_LABELS, tmp_path, limit=99).count == 40
    with pytest.raises(InvalidValue, match="limit is 0; it must be 1 or more images"):
        load_named(FASHION, SPEC, FASHION_MNIST_LABELS, tmp_path, limit=0)


@pytest.mark.usefixtures("fashion")
def test_a_model_of_other_labels(tmp_path: Path) -> None:
    images = load_named(FASHION, SPEC, ("boot", "bag", "sandal"), tmp_path)
    assert set(images.labels) == {-1, 1, 2}
    assert images.labels[:10] == (-1, -1, -1, -1, -1, 2, -1, -1, 1, -1)
    assert "could not be matched" in images.note


def test_files_are_read_and_broken_ones_skipped(pets: Path, tmp_path: Path, picture: Picture) -> None:
    (pets / "Abyssinian_0.jpg").write_bytes(b"")
    (pets / "Beagle_3.jpg").write_bytes(b"no image")
    images = load_named(PETS, SPEC, ("Beagle", "Abyssinian"), tmp_path / "work")
    assert images.count == 18
    assert images.names[:2] == (f"{PETS}/test/1", f"{PETS}/test/2")
    assert images.labels[:3] == (0, 1, 1)
    assert [entry.name for entry in images.skipped] == [str(pets / "Abyssinian_0.jpg"), str(pets / "Beagle_3.jpg")]
    assert images.skipped[0] == Skipped(str(pets / "Abyssinian_0.jpg"), "is empty (0 bytes)")
    assert images.skipped[1].reason.startswith("is no image of a known kind")
    pixels = np.load(images.pixels_path)
    np.testing.assert_array_equal(pixels[2], crop_pixels(picture(seed=4), SPEC))


def test_a_broken_image_is_replaced_within_the_limit(pets: Path, tmp_path: Path) -> None:
    whole = load_named(PETS, SPEC, BREEDS, tmp_path / "whole", limit=10)
    for name in whole.names[:4]:
        index = int(name.rsplit("/", 1)[1])
        (pets / f"{BREEDS[index % 2]}_{index}.jpg").write_bytes(b"")
    images = load_named(PETS, SPEC, BREEDS, tmp_path / "work", limit=10)
    assert images.count == len(set(images.names)) == 10
    assert set(images.names) > set(whole.names[4:])
    assert len(images.skipped) >= 4
    assert load_named(PETS, SPEC, BREEDS, tmp_path / "again", limit=10).names == images.names


def test_an_image_too_thin_to_resize_is_skipped(pets: Path, tmp_path: Path) -> None:
    Image.new("L", (1, 60_000)).save(pets / "Abyssinian_0.jpg", "PNG")
    images = load_named(PETS, ImageSpec(224, 224, 256), BREEDS, tmp_path / "work", limit=20)
    assert images.skipped[0].reason.startswith("1 x 60000 pixels is too long and thin")


def test_nothing_readable_is_an_error(pets: Path, tmp_path: Path) -> None:
    for path in pets.iterdir():
        path.write_bytes(b"")
    with pytest.raises(NoImages, match=r"none of the 20 images could be read: .*Abyssinian_0\.jpg: is empty"):
        load_named(PETS, SPEC, BREEDS, tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.usefixtures("fashion")
def test_progress_counts_the_images(tmp_path: Path) -> None:
    seen: list[Progress] = []
    load_named(FASHION, SPEC, FASHION_MNIST_LABELS, tmp_path, split="train", progress=seen.append)
    assert seen == [Progress("images", FASHION, 0, 200), Progress("images", FASHION, 100, 200)]


def test_a_hugging_face_data_set(
    parquet: Callable[..., Path], tmp_path: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    parquet("train", 8)
    name = f"hf:{parquet('test', 4)}"
    images = load_named(name, SPEC, ("Dog", "Cat"), tmp_path / "work")
    assert images.labels == (1, 0, 1, 0)
    assert images.names[3] == f"{name}/test/3"
    np.testing.assert_array_equal(np.load(images.pixels_path)[2], crop_pixels(picture(seed=2), SPEC))


def test_calibration_takes_training_images(pets: Path, tmp_path: Path, picture: Picture) -> None:
    found = gather(Wanted([PETS], limit=5), SPEC, BREEDS, tmp_path / "work", calibrated=True)
    images, calibration = found.images, found.calibration
    assert images is not None
    assert calibration is not None
    assert (images.count, len(calibration)) == (5, 20)
    assert calibration.pixels_path is not None
    trained = np.load(calibration.pixels_path)
    np.testing.assert_array_equal(trained[1], crop_pixels(picture(seed=101), SPEC))


def test_calibration_on_a_named_set_of_its_own(pets: Path, tmp_path: Path, picture: Picture) -> None:
    wanted = Wanted([pets], calibration=[PETS])
    found = gather(wanted, SPEC, BREEDS, tmp_path / "work", calibrated=True)
    images, calibration = found.images, found.calibration
    assert images is not None
    assert calibration is not None
    assert (images.count, len(calibration)) == (40, 20)
    assert calibration.pixels_path is not None
    np.testing.assert_array_equal(np.load(calibration.pixels_path)[0], crop_pixels(picture(seed=100), SPEC))
