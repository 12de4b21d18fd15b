"""Pets and flowers: torchvision's layout and labels, images that stay in their files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from torchvision.datasets import Flowers102, OxfordIIITPet

from vitlet.data.datasets import load_dataset
from vitlet.errors import HubUnreachable, UnreadableImage

Picture = Callable[..., Image.Image]
PETS = (("Abyssinian_1", 1), ("shiba_inu_2", 3), ("Abyssinian_100", 1), ("american_bulldog_7", 2))
FLOWERS = (77, 1, 102, 5, 5, 3)  # classes from 1 of the images from 1


@pytest.fixture
def pets(tmp_path: Path, picture: Picture) -> Path:
    folder = tmp_path / "oxford-iiit-pet"
    for name in ("images", "annotations"):
        (folder / name).mkdir(parents=True)
    for index, (name, _) in enumerate(PETS):
        picture(seed=index).save(folder / "images" / f"{name}.jpg", quality=90)
    lines = [f"{name} {label} 1 {label}\n" for name, label in PETS]
    (folder / "annotations" / "trainval.txt").write_text("".join(lines))
    (folder / "annotations" / "test.txt").write_text("".join(lines[:0:-1]))
    return tmp_path


@pytest.fixture
def flowers(tmp_path: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    for index in range(len(FLOWERS)):
        picture(seed=index).save(folder / "jpg" / f"image_{index + 1:05}.jpg", quality=90)
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": np.array([FLOWERS], np.uint8)})
    scipy.io.savemat(folder / "setid.mat", {"trnid": [[3, 1]], "valid": [[6, 2]], "tstid": [[5, 4]]})
    known = dict(Flowers102._file_dict)
    for key in ("label", "setid"):
        name = known[key][0]
        known[key] = (name, hashlib.md5((folder / name).read_bytes()).hexdigest())
    monkeypatch.setattr(Flowers102, "_file_dict", known)
    return tmp_path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")


@pytest.mark.parametrize(("split", "theirs"), [("train", "trainval"), ("test", "test")])
def test_pets_are_torchvisions(split: str, theirs: str, pets: Path) -> None:
    found = load_dataset("torchvision:OxfordIIITPet", split, pets)  # type: ignore[arg-type]
    expected = OxfordIIITPet(pets, split=theirs)
    assert found.class_names == tuple(expected.classes) == ("Abyssinian", "American Bulldog", "Shiba Inu")
    assert found.count == len(expected) == (4 if split == "train" else 3)
    for index in range(found.count):
        image, label = expected[index]
        assert found.labels[index] == label
        np.testing.assert_array_equal(np.asarray(found.read(index)), np.asarray(image))
    assert found.name(0).startswith(str(pets / "oxford-iiit-pet" / "images"))


def test_flowers_are_torchvisions(flowers: Path) -> None:
    train, test = (load_dataset("torchvision:Flowers102", split, flowers) for split in ("train", "test"))
    assert [train.name(index)[-9:] for index in range(4)] == ["00003.jpg", "00001.jpg", "00006.jpg", "00002.jpg"]
    assert train.labels.tolist() == [101, 76, 2, 0]
    expected = Flowers102(flowers, split="test")
    assert test.labels.tolist() == [expected[index][1] for index in range(2)] == [4, 4]
    np.testing.assert_array_equal(np.asarray(test.read(1)), np.asarray(expected[1][0]))
    assert len(train.class_names) == 102
    assert train.class_names[76] == "passion flower"


def test_an_unpacking_that_was_interrupted_is_told(pets: Path) -> None:
    (pets / "oxford-iiit-pet" / "images" / "shiba_inu_2.jpg").unlink()
    with pytest.raises(UnreadableImage, match=r"oxford-iiit-pet lacks 1 of 4 images \(shiba_inu_2\.jpg\); remove it"):
        load_dataset("torchvision:OxfordIIITPet", "train", pets)


def test_damaged_annotations_are_told(pets: Path) -> None:
    (pets / "oxford-iiit-pet" / "annotations" / "test.txt").write_text("Abyssinian_1 one\n")
    with pytest.raises(UnreadableImage, match="oxford-iiit-pet: its annotations are damaged; remove it"):
        load_dataset("torchvision:OxfordIIITPet", "test", pets)


@pytest.mark.parametrize("missing", ["annotations/test.txt", "annotations"])
@pytest.mark.usefixtures("no_network")
def test_pets_that_are_not_whole(missing: str, pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = pets / "oxford-iiit-pet" / missing
    path.rename(pets / "away")
    with pytest.raises(HubUnreachable, match=r"check the network, or remove .*oxford-iiit-pet if it is not whole"):
        load_dataset("torchvision:OxfordIIITPet", "test", pets)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["OxfordIIITPet", "Flowers102"])
@pytest.mark.usefixtures("no_network")
def test_no_files_and_no_network(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        HubUnreachable, match=rf"{name} is not in .* and cannot be downloaded \(.*\); check the network"
    ):
        load_dataset(f"torchvision:{name}", "train", tmp_path)
    assert capsys.readouterr().out == ""


def test_without_a_folder_the_users_cache_is_taken(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(pets / "cache"))
    place = pets / "cache" / "vitlet" / "datasets"
    place.mkdir(parents=True)
    (pets / "oxford-iiit-pet").rename(place / "oxford-iiit-pet")
    assert load_dataset("torchvision:OxfordIIITPet", "test").name(0).startswith(str(place))
