"""Labelled images in memory and in files: what is checked, what is read, what identifies a set."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitlet.data.labelled import LabelledFiles, LabelledImages, LabelledPixels, check_indices
from vitlet.errors import InvalidValue, UnreadableImage

Picture = Callable[..., Image.Image]
NAMES = ("cat", "dog")


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def in_memory() -> LabelledPixels:
    return LabelledPixels(pixels(4, 5, 6, 3), np.array([0, 1, 1, 0]), NAMES)


@pytest.fixture
def in_files(tmp_path: Path, picture: Picture) -> LabelledFiles:
    (tmp_path / "set").mkdir()
    for index in range(4):
        picture(6, 5, index).save(tmp_path / "set" / f"{index}.png")
    return LabelledFiles(tuple(f"{index}.png" for index in range(4)), np.array([0, 1, 1, 0]), NAMES, tmp_path / "set")


@pytest.fixture(params=["memory", "files"])
def images(request: pytest.FixtureRequest) -> LabelledImages:
    return in_memory() if request.param == "memory" else request.getfixturevalue("in_files")


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (np.zeros((2, 4, 4), np.float32), np.zeros(2, np.int64), "float32"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int64), r"\[2, 4, 4, 1\]"),
        (np.zeros((2, 4), np.uint8), np.zeros(2, np.int64), r"\[2, 4\]"),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(3, np.int64), r"\[3\]"),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int32), "int32"),
        (np.zeros((2, 4, 4), np.uint8), np.array([0, 2]), "0 to 2 for 2"),
        (np.zeros((2, 4, 4), np.uint8), np.array([-1, 0]), "-1 to 0"),
    ],
)
def test_pixels_are_checked(pixels: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        LabelledPixels(pixels, labels, ("a", "b"))


@pytest.mark.parametrize(
    ("labels", "message"), [([0, 1, 2], "0 to 2 for 2 class names"), ([0], r"must be int64 \[3\]")]
)
def test_files_are_checked(labels: list[int], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=message):
        LabelledFiles(("a", "b", "c"), np.array(labels), NAMES, tmp_path)


def test_pixels_read_as_rgb() -> None:
    colour = in_memory()
    assert colour.read(2).mode == "RGB"
    np.testing.assert_array_equal(np.asarray(colour.read(2)), colour.pixels[2])
    gray = LabelledPixels(pixels(2, 5, 6), np.array([0, 1]), NAMES)
    assert gray.read(1).mode == "RGB"
    np.testing.assert_array_equal(np.asarray(gray.read(1)), np.repeat(gray.pixels[1][:, :, None], 3, axis=2))
    assert gray.size == (5, 6)


def test_files_read_upright_rgb(in_files: LabelledFiles, picture: Picture) -> None:
    np.testing.assert_array_equal(np.asarray(in_files.read(3)), np.asarray(picture(6, 5, 3)))
    turned = Image.new("L", (8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(in_files.root / "0.png", exif=exif)
    assert (in_files.read(0).mode, in_files.read(0).size) == ("RGB", (4, 8))


def test_broken_and_missing_files_show_when_they_are_read(in_files: LabelledFiles) -> None:
    before = in_files.digest
    (in_files.root / "1.png").write_bytes(b"")
    (in_files.root / "2.png").unlink()
    again = LabelledFiles(in_files.paths, in_files.labels, NAMES, in_files.root)
    assert again.count == 4
    with pytest.raises(UnreadableImage) as caught:
        again.read(1)
    assert str(caught.value) == f"{in_files.root / '1.png'}: is empty (0 bytes)"
    assert again.name(1) == str(in_files.root / "1.png")
    with pytest.raises(UnreadableImage, match=r"2\.png: cannot be read: No such file"):
        again.read(2)
    assert again.digest != before


def test_a_subset_has_these_images_in_this_order(images: LabelledImages) -> None:
    some = images.subset([3, 1, 1])
    assert type(some) is type(images)
    assert some.count == 3
    assert some.labels.tolist() == [0, 1, 1]
    assert some.class_names == NAMES
    for position, index in enumerate((3, 1, 1)):
        np.testing.assert_array_equal(np.asarray(some.read(position)), np.asarray(images.read(index)))
    assert images.subset(np.array([], np.int64)).count == images.subset([]).count == 0


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 4], "run from 0 to 4; there are 4 images"),
        ([-1], "run from -1 to -1"),
        ([True, False, True, False], "are bool"),
        ([0.5], "are float64"),
        ([[0]], r"\[1, 1\]"),
    ],
)
def test_indices_are_checked(indices: list[int], message: str, images: LabelledImages) -> None:
    with pytest.raises(InvalidValue, match=message):
        images.subset(indices)


def test_indices_of_any_integer_type() -> None:
    found = check_indices(np.array([1, 0], np.uint8), 2)
    assert (found.dtype, found.tolist()) == (np.int64, [1, 0])


def test_the_first_images_share_their_pixels() -> None:
    images = in_memory()
    assert images.first(3).count == 3
    assert images.first(9).count == 4
    assert np.shares_memory(images.first(3).pixels, images.pixels)
    assert images.first(3).labels.tolist() == [0, 1, 1]


def test_the_digest_of_pixels_is_of_all_that_they_are() -> None:
    images = in_memory()
    assert images.digest == in_memory().digest
    assert len(images.digest) == 64
    other = pixels(4, 5, 6, 3)
    other[3, 4, 5, 2] ^= 1
    others = [
        LabelledPixels(other, images.labels, NAMES),
        LabelledPixels(images.pixels.reshape(4, 6, 5, 3), images.labels, NAMES),
        LabelledPixels(images.pixels, np.array([0, 1, 1, 1]), NAMES),
        LabelledPixels(images.pixels, images.labels, ("cat", "cow")),
        images.subset([1, 0, 2, 3]),
        images.first(3),
    ]
    assert len({images.digest, *(one.digest for one in others)}) == 7
    reverse = LabelledPixels(images.pixels[::-1], images.labels[::-1], NAMES)
    assert reverse.digest == images.subset([3, 2, 1, 0]).digest


def test_the_digest_of_files_is_of_names_sizes_and_labels(in_files: LabelledFiles, tmp_path: Path) -> None:
    in_files.root.rename(tmp_path / "elsewhere")
    moved = LabelledFiles(in_files.paths, in_files.labels, NAMES, tmp_path / "elsewhere")
    first = moved.digest
    in_place = LabelledFiles(moved.paths, moved.labels, NAMES, moved.root)
    assert in_place.digest == first
    others = [
        LabelledFiles(moved.paths, np.array([0, 1, 1, 1]), NAMES, moved.root),
        LabelledFiles(moved.paths, moved.labels, ("cat", "cow"), moved.root),
        moved.subset([1, 0, 2, 3]),
        moved.subset([0, 1, 2]),
    ]
    found = {first, *(one.digest for one in others)}
    (moved.root / "0.png").write_bytes((moved.root / "0.png").read_bytes() + b"x")
    found.add(LabelledFiles(moved.paths, moved.labels, NAMES, moved.root).digest)
    assert len(found) == 6


def test_the_digest_of_files_reads_none(in_files: LabelledFiles) -> None:
    before = in_files.digest
    path = in_files.root / "0.png"
    path.write_bytes(bytes(path.stat().st_size))
    assert LabelledFiles(in_files.paths, in_files.labels, NAMES, in_files.root).digest == before


def test_a_fresh_process_reads_from_its_own_copy(images: LabelledImages) -> None:
    """What a DataLoader's worker does that was spawned."""
    code = "import pickle, sys; i = pickle.load(sys.stdin.buffer); print(i.read(1).tobytes().hex(), i.digest)"
    answer = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(images), capture_output=True, check=True, timeout=600
    )
    assert answer.stdout.decode().split() == [images.read(1).tobytes().hex(), images.digest]
