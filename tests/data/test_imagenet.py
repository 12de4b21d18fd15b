"""ImageNet in the folders that everyone unpacks it to."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from timm.data import ImageNetInfo

from vitlet.data.datasets import load_dataset
from vitlet.errors import HubUnreachable, InvalidValue

IDS: list[str] = ImageNetInfo("imagenet-1k").label_names()
NAME = "torchvision:ImageNet"


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of each class in either split, two training images of the last; all but one hold no image."""
    root = tmp_path_factory.mktemp("imagenet")
    for index, wordnet_id in enumerate(IDS):
        for split, name in (("train", f"{wordnet_id}_{index}.JPEG"), ("val", f"ILSVRC2012_val_{index:08}.JPEG")):
            (root / split / wordnet_id).mkdir(parents=True)
            (root / split / wordnet_id / name).write_bytes(b"")
    (root / "train" / IDS[-1] / "another.JPEG").write_bytes(b"")
    return root


def test_the_classes_are_imagenets(imagenet: Path) -> None:
    train, test = (load_dataset(NAME, split, imagenet) for split in ("train", "test"))
    assert (train.count, test.count) == (1001, 1000)
    assert train.labels.tolist() == [*range(1000), 999]
    assert test.labels.tolist() == list(range(1000))
    assert test.name(134) == str(imagenet / "val" / IDS[134] / "ILSVRC2012_val_00000134.JPEG")
    assert train.class_names == test.class_names
    assert (train.class_names[0], train.class_names[134]) == ("tench, Tinca tinca", "crane")


def test_images_are_read(imagenet: Path, picture: Callable[..., Image.Image], tmp_path: Path) -> None:
    path = imagenet / "val" / IDS[7] / "ILSVRC2012_val_00000007.JPEG"
    picture(seed=7).save(tmp_path / "a.png")
    path.write_bytes((tmp_path / "a.png").read_bytes())  # ImageNet too has a PNG that is called JPEG
    np.testing.assert_array_equal(np.asarray(load_dataset(NAME, "test", imagenet).read(7)), np.asarray(picture(seed=7)))


@pytest.mark.parametrize(("split", "folder"), [("train", "train"), ("test", "val")])
def test_it_cannot_be_downloaded(split: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HubUnreachable, match=rf"ImageNet cannot be downloaded .* no folder {tmp_path}/{folder}; get"):
        load_dataset(NAME, split, tmp_path)  # type: ignore[arg-type]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(HubUnreachable, match=rf"link the folder of both as {tmp_path}/vitlet/datasets/imagenet$"):
        load_dataset(NAME, split)  # type: ignore[arg-type]


def test_a_half_of_it_is_not_taken_for_the_whole(imagenet: Path, tmp_path: Path) -> None:
    shutil.copytree(imagenet / "train" / IDS[0], tmp_path / "train" / IDS[0])
    with pytest.raises(InvalidValue, match=r"train holds images of 1 of the 1000 classes of ImageNet-1k; unpack all"):
        load_dataset(NAME, "train", tmp_path)
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"")
    with pytest.raises(InvalidValue, match=r"images of 0 of the 1000 .* does not sort them"):
        load_dataset(NAME, "test", tmp_path)


def test_a_folder_of_another_class_is_named(tmp_path: Path) -> None:
    (tmp_path / "train" / "n00000001").mkdir(parents=True)
    (tmp_path / "train" / "n00000001" / "a.JPEG").write_bytes(b"")
    with pytest.raises(InvalidValue, match="train holds 'n00000001', which is no class of ImageNet-1k"):
        load_dataset(NAME, "train", tmp_path)
