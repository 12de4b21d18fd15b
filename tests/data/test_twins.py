"""Copies and near-copies of images between sets."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data as photos

from vitlet.data.calibration import Calibration, calibration_of
from vitlet.data.gather import Wanted, gather_parts
from vitlet.data.imageset import ImageSet
from vitlet.data.pixel_file import PixelWriter
from vitlet.data.preprocess import crop_pixels
from vitlet.data.twins import Pictures, Twins, fingerprints, near_twins, without_copies
from vitlet.errors import EmptyPart
from vitlet.records import ImageSpec

SPEC = ImageSpec(224, 224, 256)
NAMES = (
    *("astronaut", "coffee", "rocket", "camera", "immunohistochemistry"),
    *("retina", "moon", "brick", "grass", "gravel"),
)


def photo(name: str) -> Image.Image:
    return Image.fromarray(getattr(photos, name)()).convert("RGB")


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content).convert("RGB")


def image_set(folder: Path, images: dict[str, Image.Image]) -> ImageSet:
    with PixelWriter(folder / "pixels.npy", SPEC.height, SPEC.width) as writer:
        for image in images.values():
            writer.append(crop_pixels(image, SPEC))
    return ImageSet(folder / "pixels.npy", SPEC, tuple(images), tuple(range(len(images))))


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return image_set(tmp_path_factory.mktemp("originals"), {name: photo(name) for name in NAMES})


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: jpeg(image, 90),
        lambda image: jpeg(image, 30),
        lambda image: image.resize((image.width // 2, image.height // 2)),
    ],
    ids=["same", "quality 90", "quality 30", "half"],
)
def test_a_picture_saved_or_scaled_anew_is_found(originals, tmp_path, change):
    others = image_set(tmp_path, {f"new {name}": change(photo(name)) for name in NAMES})
    assert near_twins(originals, [Pictures.of(others)]) == tuple(Twins(name, f"new {name}") for name in NAMES)


def test_other_pictures_are_not(originals, tmp_path):
    """Half of each against the other half, mirrored, and plain areas of nearly one colour."""
    mirrored = {name: photo(name).transpose(Image.Transpose.FLIP_LEFT_RIGHT) for name in NAMES}
    assert near_twins(originals, [Pictures.of(image_set(tmp_path, mirrored))]) == ()
    plain = {str(level): Image.new("RGB", (256, 256), (level, level, level)) for level in (100, 101)}
    for folder, name in (("one", "100"), ("two", "101")):
        (tmp_path / folder).mkdir()
        plain[folder] = image_set(tmp_path / folder, {name: plain[name]})
    assert near_twins(plain["one"], [Pictures.of(plain["two"])]) == ()
    assert near_twins(originals, []) == ()


def test_more_rows_than_are_compared_at_once(tmp_path, monkeypatch, originals):
    monkeypatch.setattr("vitlet.data.twins._ROWS", 3)
    assert len(near_twins(originals, [Pictures.of(originals)])) == len(NAMES)


def test_pictures_of_a_calibration(originals):
    calibration = calibration_of(originals)
    assert Pictures.of(calibration).names == NAMES
    some = Calibration(SPEC, originals.pixels_path, (1, 3))
    assert Pictures.of(some).names == ("image 1", "image 3")
    assert near_twins(originals, [Pictures.of(some)]) == (Twins("coffee", "image 1"), Twins("camera", "image 3"))
    assert near_twins(originals, [Pictures.of(Calibration(SPEC, random_count=3))]) == ()


def test_fingerprints(originals):
    pixels = np.load(originals.pixels_path)
    found = fingerprints(pixels)
    assert (found.dtype, len(set(found.tolist()))) == (np.uint64, len(NAMES))
    other = pixels[2].copy()
    other[0, 0, 0] ^= 1
    assert fingerprints(np.stack([pixels[1], other])).tolist()[0] == found[1]
    assert fingerprints(np.stack([pixels[1], other])).tolist()[1] != found[2]


def test_copies_are_left_out(originals, tmp_path):
    others = image_set(tmp_path, {"elsewhere": photo("rocket"), "new": jpeg(photo("moon"), 90)})
    found = without_copies(originals, [Pictures.of(others)])
    kept = [name for name in NAMES if name != "rocket"]
    assert list(found.names) == kept
    assert found.labels == tuple(NAMES.index(name) for name in kept)
    rows = [NAMES.index(name) for name in kept]
    assert np.array_equal(np.load(found.pixels_path), np.load(originals.pixels_path)[rows])
    assert [(one.name, "cannot certify" in one.reason) for one in found.skipped] == [("rocket", True)]
    assert found.digest != originals.digest
    assert without_copies(found, [Pictures.of(others)]) is found
    with pytest.raises(EmptyPart, match="all 10 images to certify with are among those"):
        without_copies(originals, [Pictures.of(originals)])


def test_of_copies_within_a_set_one_is_left(tmp_path):
    """Else twenty copies of each image would prove as much as twenty times as many images."""
    images = {f"{name} {again}": photo(name) for again in range(3) for name in NAMES[:4]}
    found = without_copies(image_set(tmp_path, images), [])
    assert found.names == tuple(f"{name} 0" for name in NAMES[:4])
    assert len(found.skipped) == 8
    assert {one.reason for one in found.skipped} == {"the same picture is among those to certify with already"}


def test_images_named_to_certify_with(tmp_path):
    """Three folders: what is in two of them does not certify, and what looks like it is told."""
    folders = {name: tmp_path / name for name in ("calibrate", "search", "certify")}
    for number, name in enumerate(NAMES[:9]):
        folder = list(folders.values())[number % 3]
        folder.mkdir(exist_ok=True)
        photo(name).save(folder / f"{name}.png")
    photo(NAMES[0]).save(folders["certify"] / "copy of one to calibrate with.png")
    photo(NAMES[1]).save(folders["certify"] / "near one to choose by.jpg", quality=80)
    wanted = Wanted([folders["search"]], [folders["calibrate"]], certify=[folders["certify"]])
    found = gather_parts(wanted, SPEC, (), tmp_path / "work", calibrated=True)
    assert found.images is not None
    assert found.calibration is not None
    assert found.to_certify is not None
    assert (found.images.count, len(found.calibration), found.to_certify.count) == (3, 3, 4)
    assert [Path(one.name).name for one in found.to_certify.skipped] == ["copy of one to calibrate with.png"]
    assert [(Path(one.name).name, Path(one.other).name) for one in found.twins] == [
        ("near one to choose by.jpg", f"{NAMES[1]}.png")
    ]
    again = Wanted([folders["search"]], certify=[folders["search"]])
    with pytest.raises(EmptyPart):
        gather_parts(again, SPEC, (), tmp_path / "again")
