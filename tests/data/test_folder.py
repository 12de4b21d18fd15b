"""Folders of images as data sets."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitlet.data.folder import load_folder
from vitlet.errors import InvalidValue, NoImages, UnreadableImage

Picture = Callable[..., Image.Image]


@pytest.fixture
def make(tmp_path: Path) -> Callable[[Mapping[str, int]], Path]:
    """Files by folder and number. They are no images, which nobody notices who only lists them."""

    def build(counts: Mapping[str, int]) -> Path:
        root = tmp_path / "root"
        root.mkdir()
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                (root / folder / f"{index}.jpg").write_bytes(b"")
        return root

    return build


def test_class_folders_are_parted(make: Callable[..., Path]) -> None:
    root = make({"dog": 30, "cat": 20, "Bee": 2})
    train, test = (load_folder(root, split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("Bee", "cat", "dog")
    assert np.bincount(train.labels).tolist() == [1, 18, 27]
    assert np.bincount(test.labels).tolist() == [1, 2, 3]
    assert not set(train.paths) & set(test.paths)
    assert len({*train.paths, *test.paths}) == 52
    for images in (train, test):
        assert [path.split("/")[0] for path in images.paths] == [images.class_names[label] for label in images.labels]
        assert images.root == root


def test_the_same_images_are_held_out_for_a_seed(make: Callable[..., Path]) -> None:
    root = make({"cat": 20, "dog": 20})
    first = load_folder(root, "test", seed=3)
    assert load_folder(root, "test", seed=3).paths == first.paths
    assert load_folder(root, "test", seed=4).paths != first.paths
    assert load_folder(root, "test", holdout=0.5).count == 20
    with pytest.raises(InvalidValue, match="holdout is 1"):
        load_folder(root, "test", holdout=1)


@pytest.mark.parametrize("name", ["val", "validation", "valid", "test"])
def test_folders_of_splits(name: str, make: Callable[..., Path]) -> None:
    root = make({"train/cat": 3, "train/dog": 4, f"{name}/dog": 2, "extra": 5})
    train, test = (load_folder(root, split) for split in ("train", "test"))
    assert (train.class_names, train.labels.tolist()) == (("cat", "dog"), [0, 0, 0, 1, 1, 1, 1])
    assert (test.class_names, test.labels.tolist()) == (("cat", "dog"), [1, 1])
    assert test.name(1) == str(root / name / "dog" / "1.jpg")


def test_test_images_go_before_validation_images_if_they_have_classes(make: Callable[..., Path]) -> None:
    root = make({"train/cat": 1, "train/dog": 1, "val/cat": 2, "test": 9})
    assert load_folder(root, "test").root == root / "val"
    (root / "test" / "dog").mkdir()
    (root / "test" / "dog" / "a.jpg").write_bytes(b"")
    assert load_folder(root, "test").root == root / "test"


def test_test_images_without_classes_are_not_taken_for_a_class(make: Callable[..., Path]) -> None:
    root = make({"train/cat": 2, "train/dog": 2, "test": 9})
    for split in ("train", "test"):
        with pytest.raises(NoImages, match=r"test holds no class folders.*give .*train alone"):
            load_folder(root, split)  # type: ignore[arg-type]
    assert load_folder(root / "train", "test").count == 2


def test_training_images_alone_are_parted(make: Callable[..., Path]) -> None:
    root = make({"train/cat": 10, "train/dog": 10})
    train, test = (load_folder(root, split) for split in ("train", "test"))
    assert (train.count, test.count, train.class_names) == (18, 2, ("cat", "dog"))


def test_a_class_may_be_called_train(make: Callable[..., Path]) -> None:
    assert load_folder(make({"train": 2, "bus": 2}), "train").class_names == ("bus", "train")


def test_test_images_in_a_folder_of_another_name(make: Callable[..., Path]) -> None:
    """Else "train" and "holdout" would be taken for the classes."""
    root = make({"train/cat": 3, "train/dog": 3, "holdout/cat": 2, "holdout/dog": 2})
    for split in ("train", "test"):
        with pytest.raises(InvalidValue, match=r"images in 'holdout' beside those in 'train'; call the .*validation"):
            load_folder(root, split)


def test_a_deep_image_counts_to_the_class_on_top(make: Callable[..., Path]) -> None:
    root = make({"cat/indoors/2024": 2, "cat": 1, "dog/cat": 2})
    images = load_folder(root, "train", holdout=0.01)
    assert images.class_names == ("cat", "dog")
    assert [path for path, label in zip(images.paths, images.labels, strict=True) if label == 1] in (
        ["dog/cat/0.jpg"],
        ["dog/cat/1.jpg"],
    )


def test_what_is_no_image_of_a_class_is_passed_over(make: Callable[..., Path]) -> None:
    root = make({"cat": 2, "dog": 2, ".hidden": 2, "cat/.thumbnails": 4, "notes": 0})
    (root / "loose.jpg").write_bytes(b"")
    (root / "notes" / "readme.txt").write_text("text")
    (root / "cat" / "list.csv").write_text("text")
    assert load_folder(root, "train").class_names == ("cat", "dog")
    assert load_folder(root, "train").count + load_folder(root, "test").count == 4


def test_broken_images_are_found_by_reading(class_folders: Path, picture: Picture) -> None:
    for name in ("train", "val"):
        (class_folders / name).mkdir()
    for label in ("cat", "dog"):
        (class_folders / label).rename(class_folders / "train" / label)
    (class_folders / "val" / "dog").mkdir()
    (class_folders / "val" / "dog" / "a.png").write_bytes(b"no image")
    train, test = (load_folder(class_folders, split) for split in ("train", "test"))
    np.testing.assert_array_equal(np.asarray(train.read(4)), np.asarray(picture(seed=11)))
    assert test.labels.tolist() == [1]
    with pytest.raises(UnreadableImage, match=r"val/dog/a\.png: is no image of a known kind"):
        test.read(0)


def test_links_are_followed_once(make: Callable[..., Path]) -> None:
    root = make({"cat": 2, "dog": 2})
    (root / "cat" / "again").symlink_to(root / "cat")
    (root / "cow").symlink_to(root / "dog")
    train, test = (load_folder(root, split) for split in ("train", "test"))
    assert train.class_names == ("cat", "cow", "dog")
    assert train.count + test.count == 6


def test_a_class_that_train_lacks_is_named(make: Callable[..., Path]) -> None:
    root = make({"train/cat": 1, "train/dog": 1, "val/cat": 1, "val/cow": 1})
    with pytest.raises(InvalidValue, match=r"val holds the class 'cow', which .*train lacks"):
        load_folder(root, "test")
    assert load_folder(root, "train").count == 2


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        ({}, NoImages, "root holds no sub-folder with images"),
        ({"notes": 0}, NoImages, "root holds no sub-folder with images"),
        ({"cat": 3}, InvalidValue, r"one class only \(cat\)"),
        ({"train": 3}, InvalidValue, r"one class only \(train\)"),
        ({"train/cat": 3}, InvalidValue, r"train holds one class only \(cat\)"),
        ({"train": 3, "val/cat": 3}, NoImages, "train holds no sub-folder with images"),
        ({"train/cat": 3, "val/cat": 3}, InvalidValue, r"one class only \(cat\)"),
        ({"cat": 1, "dog": 2}, InvalidValue, "class 'cat' has one image only"),
    ],
)
def test_folders_that_are_no_data_set(
    counts: Mapping[str, int], error: type[Exception], message: str, make: Callable[..., Path]
) -> None:
    root = make(counts)
    for split in ("train", "test"):
        with pytest.raises(error, match=message):
            load_folder(root, split)  # type: ignore[arg-type]


def test_what_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="absent is no folder"):
        load_folder(tmp_path / "absent", "train")
    with pytest.raises(InvalidValue, match="split is 'val'"):
        load_folder(tmp_path, "val")  # type: ignore[arg-type]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list any folder")
def test_a_folder_that_cannot_be_listed_is_named(make: Callable[..., Path]) -> None:
    root = make({"cat": 2, "dog": 2})
    (root / "dog").chmod(0)
    try:
        with pytest.raises(UnreadableImage, match="dog: this folder cannot be listed: Permission denied"):
            load_folder(root, "train")
    finally:
        (root / "dog").chmod(0o700)
