"""What goes into a bundle for it to test itself with."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitlet.bundle import golden
from vitlet.bundle.card import lay_down, make_card
from vitlet.bundle.golden import check_count, tolerance
from vitlet.bundle.manifest import Golden, GoldenImage
from vitlet.bundle.read import read_bundle
from vitlet.bundle.shipped import selftest_ways as w
from vitlet.bundle.shipped.selftest_drift import explain
from vitlet.data.load import load_images
from vitlet.data.preprocess import preprocess
from vitlet.data.read import read_image
from vitlet.errors import InvalidValue
from vitlet.records import ImageSpec, to_json

SPECS = [
    ImageSpec(64, 64, 73, "bicubic"),
    ImageSpec(64, 64, 64, "lanczos", crop_rounding="down"),
    ImageSpec(56, 72, (56, 72), "bilinear", (0.5,) * 3, (0.5,) * 3),
    ImageSpec(28, 28, 28, "bicubic", (0.286,) * 3, (0.353,) * 3),
]


def test_the_bundle_holds_what_its_manifest_says(sound: Path) -> None:
    manifest = read_bundle(sound).manifest
    assert manifest.golden is not None
    assert [image.file for image in manifest.golden.images] == [
        "golden-card.png", "golden-card-turned.png", "golden-1.jpg", "golden-2.jpg",
    ]  # fmt: skip
    assert set(manifest.golden.names) <= set(manifest.files)
    for image in manifest.golden.images:
        right = np.load(sound / image.input, allow_pickle=False)
        found = preprocess(read_image(sound / image.file, "it"), manifest.image_spec)
        np.testing.assert_array_equal(right, found)
    logits, original = (np.load(sound / name) for name in (manifest.golden.logits, manifest.golden.original_logits))
    assert logits.shape == original.shape == (3, 5)
    assert 0 < np.linalg.norm(logits - original) / np.linalg.norm(original) <= manifest.golden.tolerance


def test_a_golden_file_that_is_not_there_is_refused(sound: Path) -> None:
    manifest = read_bundle(sound).manifest
    assert manifest.golden is not None
    with pytest.raises(InvalidValue, match=r"the golden file 'nowhere\.npy' is none of the bundle's files"):
        replace(manifest, golden=replace(manifest.golden, logits="nowhere.npy"))


@pytest.mark.parametrize("spec", SPECS)
def test_every_way_of_preparing_the_card_wrongly_shows_and_is_named(spec: ImageSpec) -> None:
    upright = read_image(make_card(spec), "card")
    data, mean, std = to_json(spec), np.array(spec.mean), np.array(spec.std)
    assert upright.width > upright.height
    ways = list(w.ways(data, upright.size, False))
    resizes = [way for way in ways if way.resize]
    for way in [way for way in ways if not way.resize] + resizes[:8] + resizes[8::13]:
        pixels, _ = w.pixels(way, data, upright, upright)
        tensor = ((pixels / 255 - mean) / std).transpose(2, 0, 1).astype(np.float32)
        causes = explain(tensor, data, upright, upright)
        assert causes is not None, way
        told = way.filter or way.turn or (way.resize.told if way.resize else "")
        if way.resize:  # two ways of saying the same, where sizes happen to be equal
            right = w.pixels(w.Way(), data, upright, upright)[0]
            same = [
                other.resize.told
                for other in w.ways(data, upright.size, False)
                if other.resize and (other.resize.size, other.resize.corner) == (way.resize.size, way.resize.corner)
            ]
            assert np.abs(pixels - right).mean() > 0.3 or len(causes) == 1, way
            assert [cause.found in same for cause in causes] == [True], (way, causes)
        else:
            assert [cause.found for cause in causes] == [told], way


def test_the_turned_card_is_the_card() -> None:
    card = make_card(SPECS[0])
    with Image.open(io.BytesIO(lay_down(card))) as stored:
        assert stored.height > stored.width
    np.testing.assert_array_equal(
        np.asarray(read_image(lay_down(card), "turned")), np.asarray(read_image(card, "card"))
    )


def test_another_library_that_does_the_same_is_no_drift_and_without_antialiasing_is_named() -> None:
    import torch
    from torchvision.transforms.v2 import functional

    from vitlet.bundle.shipped.selftest_drift import find_drift

    spec = ImageSpec(224, 224, 256, "bilinear")
    upright = read_image(make_card(spec), "card")
    data, truth = to_json(spec), preprocess(upright, spec)
    tensor = torch.from_numpy(np.asarray(upright).copy()).permute(2, 0, 1)
    for antialias in (True, False):
        resized = functional.resize(tensor, [256], functional.InterpolationMode.BILINEAR, antialias=antialias)
        cut = functional.center_crop(resized, [224, 224]).float() / 255
        found = find_drift(functional.normalize(cut, spec.mean, spec.std).numpy(), truth, data, upright, upright)
        assert found is not None
        if antialias:
            assert found.is_close
        else:
            assert [cause.found for cause in found.causes] == ["bilinear without antialiasing"]


def test_what_a_photo_says_of_its_place_stays_out(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 0.0)}
    exif[274] = 6
    image = Image.effect_noise((900, 700), 60).convert("RGB")
    image.save(tmp_path / "a.jpg", exif=exif)
    image.resize((90, 70)).save(tmp_path / "b.jpg")
    spec = ImageSpec(64, 64, 73)
    images = load_images([str(tmp_path)], spec, ("x",), tmp_path / "out", keep=4)
    pictures = {picture.name: picture.content for picture in golden._measured_pictures(images, 3, spec)}
    names = sorted(pictures)
    assert [name.rpartition(".")[2] for name in names] in (["png", "jpg"], ["jpg", "png"])
    assert (tmp_path / "b.jpg").read_bytes() in pictures.values()
    for content in pictures.values():
        with Image.open(io.BytesIO(content)) as found:
            assert not found.getexif()
            if found.format == "PNG":
                assert found.height > found.width  # it was turned
                assert min(found.size) <= 91
    assert golden._measured_pictures(images, 0, spec) == []
    assert golden._measured_pictures(None, 3, spec) == []


def test_images_that_were_never_files_go_in_as_pixels(tmp_path: Path) -> None:
    Image.effect_noise((90, 70), 60).convert("RGB").save(tmp_path / "a.png")
    spec = ImageSpec(64, 64, 73)
    images = replace(load_images([str(tmp_path)], spec, ("x",), tmp_path / "out"), encoded=())
    (picture,) = golden._measured_pictures(images, 3, spec)
    assert read_image(picture.content, "it").size == (64, 64)


def test_large_inputs_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        Image.effect_noise((90, 70), 60 + number).convert("RGB").save(tmp_path / f"{number}.png")
    spec = ImageSpec(64, 64, 73)
    images = load_images([str(tmp_path)], spec, ("x",), tmp_path / "out", keep=3)
    monkeypatch.setattr(golden, "_MOST_BYTES", 150_000)
    assert len(golden._measured_pictures(images, 3, spec)) == 2


def test_the_tolerance_is_what_quantizing_moved() -> None:
    original = np.array([[3.0, 4.0], [0.0, 10.0]], np.float32)
    assert tolerance(original + np.float32([[0.5, 0], [0, 0.2]]), original) == pytest.approx(0.1)
    assert tolerance(original, original) == tolerance(original, None) == 0.001
    assert tolerance(original * 50, original) == 1.0


@pytest.mark.parametrize("count", [-1, 17])
def test_golden_images_out_of_range(count: int) -> None:
    with pytest.raises(InvalidValue, match=f"golden_images is {count}; it must be 0"):
        check_count(count)


def test_records_refuse_what_makes_no_sense() -> None:
    one = GoldenImage("a.png", "a.npy", 0)
    with pytest.raises(InvalidValue, match=r"the row of a\.png is -1"):
        GoldenImage("a.png", "a.npy", -1)
    with pytest.raises(InvalidValue, match="there are 0 golden images"):
        Golden((), "l.npy", "", 0.1)
    with pytest.raises(InvalidValue, match="tolerance of the golden logits is 11"):
        Golden((one,), "l.npy", "", 11)


def test_the_card_is_the_same_every_time(sound: Path) -> None:
    spec = read_bundle(sound).manifest.image_spec
    assert make_card(spec) == (sound / "golden-card.png").read_bytes()
