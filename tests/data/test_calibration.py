"""Images to calibrate with: which they are, and that none of them is measured too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitlet.data.calibration import ENOUGH, Calibration, calibration_of, set_aside
from vitlet.data.gather import Wanted, gather
from vitlet.data.imageset import ImageSet
from vitlet.errors import InvalidValue
from vitlet.records import ImageSpec

SPEC = ImageSpec(4, 4, (4, 4), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def image_set(folder: Path, count: int) -> ImageSet:
    """Image i has the value i % 256 everywhere."""
    pixels = np.repeat(np.arange(count) % 256, 48).reshape(count, 4, 4, 3).astype(np.uint8)
    np.save(folder / "pixels.npy", pixels)
    names, labels = tuple(f"{i}.png" for i in range(count)), tuple(i % 3 for i in range(count))
    return ImageSet(folder / "pixels.npy", SPEC, names, labels, digest="all")


def values(images) -> list[int]:
    return [round(float(image[0, 0, 0, 0]) * 255) for image in images]


def test_images_come_one_by_one_and_again(tmp_path):
    calibration = Calibration(SPEC, image_set(tmp_path, 10).pixels_path, (2, 5))
    for _ in range(2):
        images = list(calibration)
        assert [(i.shape, i.dtype, i.flags.c_contiguous) for i in images] == [((1, 3, 4, 4), np.float32, True)] * 2
        assert values(images) == [2, 5]
    assert len(calibration) == 2
    assert calibration.note == ""


def test_random_inputs_are_seeded_and_say_so():
    one, two = Calibration(SPEC, random_count=3, seed=1), Calibration(SPEC, random_count=3, seed=1)
    np.testing.assert_array_equal(np.concatenate(list(one)), np.concatenate(list(two)))
    assert len(one) == len(list(one)) == 3
    assert "random inputs" in one.note


@pytest.mark.parametrize(
    "more", [{}, {"indices": (1,)}, {"random_count": 2, "pixels_path": Path("a"), "indices": (1,)}]
)
def test_neither_or_both_is_refused(more):
    with pytest.raises(InvalidValue, match="rows of a file of pixels, or a number of random inputs"):
        Calibration(SPEC, **more)


@pytest.mark.parametrize(
    ("count", "wanted", "aside"),
    [(40, None, 10), (40, 40, 10), (40, 25, 15), (1000, 500, ENOUGH), (1000, None, ENOUGH), (4, 4, 1)],
)
def test_a_set_is_parted_without_overlap(tmp_path, count, wanted, aside):
    images = image_set(tmp_path, count)
    calibration, measured = set_aside(images, wanted)
    assert (len(calibration), measured.count) == (aside, count - aside)
    kept = [int(name.removesuffix(".png")) for name in measured.names]
    assert sorted({*kept, *calibration.indices}) == list(range(count))
    np.testing.assert_array_equal(np.load(measured.pixels_path)[:, 0, 0, 0], np.array(kept) % 256)
    assert measured.labels == tuple(i % 3 for i in kept)
    assert measured.digest not in ("all", "")


def test_a_single_image_serves_for_both_and_says_so(tmp_path):
    calibration, measured = set_aside(image_set(tmp_path, 1), None)
    assert (len(calibration), measured.count) == (1, 1)
    assert measured.note == "calibrated on the very images that are measured"


def test_a_large_set_is_sampled_evenly(tmp_path):
    calibration = calibration_of(image_set(tmp_path, 1000))
    assert len(calibration) == ENOUGH
    assert calibration.indices[0] == 0
    assert calibration.indices[-1] == 999
    assert max(np.diff(calibration.indices)) <= 9


@pytest.fixture
def photos(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(10):
            Image.new("RGB", (6, 6), (i, i, i)).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_gathering_without_calibration_measures_every_image(photos, tmp_path):
    found = gather(Wanted([photos]), SPEC, ("cat", "dog"), tmp_path / "work")
    images, calibration = found.images, found.calibration
    assert (images.count, calibration) == (20, None)
    assert [path.read_bytes()[:4] for path in images.encoded] == [b"\x89PNG"] * 16


def test_gathering_takes_what_is_above_the_limit_to_calibrate_with(photos, tmp_path):
    wanted = Wanted([photos], limit=12)
    found = gather(wanted, SPEC, ("cat", "dog"), tmp_path / "work", calibrated=True)
    images, calibration = found.images, found.calibration
    assert (images.count, len(calibration)) == (12, 8)
    assert images.labelled == 12


def test_named_calibration_images_leave_all_others_to_be_measured(photos, tmp_path):
    wanted = Wanted([photos / "cat"], [photos / "dog"])
    found = gather(wanted, SPEC, ("cat", "dog"), tmp_path / "work", calibrated=True)
    images, calibration = found.images, found.calibration
    assert (images.count, len(calibration)) == (10, 10)
    assert all("cat" in name for name in images.names)


def test_without_images_calibration_is_random(tmp_path):
    found = gather(Wanted(), SPEC, ("cat", "dog"), tmp_path / "work", calibrated=True)
    images, calibration = found.images, found.calibration
    assert images is None
    assert calibration.random_count > 0
