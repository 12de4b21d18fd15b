"""One name for every kind of data set, and a helpful sentence for a name that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitlet.data.datasets import DATASETS, FASHION_MNIST_LABELS, is_dataset_name, load_dataset
from vitlet.errors import InvalidValue


@pytest.mark.parametrize("name", ["torchvision:MNIST", "", "absent/folder", "torchvision:", "~no_such_user/a", "a\0b"])
def test_an_unknown_name_lists_what_there_is(name: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        load_dataset(name, "test")
    assert repr(name) in str(caught.value)
    for known in (*DATASETS, "hf:OWNER/NAME", "a sub-folder for each class"):
        assert known in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("FashionMNIST", "torchvision:FashionMNIST"),
        ("torchvision:fashion-mnist", "torchvision:FashionMNIST"),
        ("cifar10", "torchvision:CIFAR10"),
        ("torchvision:CIFAR-100", "torchvision:CIFAR100"),
        ("Imagenet", "torchvision:ImageNet"),
        ("torchvision:Flowers", "torchvision:Flowers102"),
    ],
)
def test_a_close_name_is_asked_back(name: str, meant: str) -> None:
    with pytest.raises(InvalidValue, match=rf"did you mean {meant}\?"):
        load_dataset(name, "train")


def test_a_name_like_no_other_is_not_guessed_at() -> None:
    with pytest.raises(InvalidValue) as caught:
        load_dataset("photos", "train")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", [*DATASETS, "hf:OWNER/NAME", "."])
def test_an_unknown_split_is_refused_before_anything_is_loaded(name: str) -> None:
    with pytest.raises(InvalidValue, match="split is 'validation'; it must be 'train' or 'test'"):
        load_dataset(name, "validation")  # type: ignore[arg-type]


def test_the_path_of_a_folder(class_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = (load_dataset(str(class_folders), split) for split in ("train", "test"))
    assert (train.count, test.count, train.class_names) == (4, 2, ("cat", "dog"))
    monkeypatch.setenv("HOME", str(class_folders.parent))
    assert load_dataset("~/photos", "train").count == 4


def test_the_path_of_a_file_is_no_data_set(class_folders: Path) -> None:
    with pytest.raises(InvalidValue, match=r"notes\.txt is no folder"):
        load_dataset(str(class_folders / "notes.txt"), "train")


def test_names_are_told_from_paths() -> None:
    assert all(is_dataset_name(name) for name in (*DATASETS, "torchvision:absent", "hf:a/b", "hf:./folder"))
    assert not any(is_dataset_name(path) for path in ("photos", "./hf", "http://host/torchvision:a", "-", ""))


def test_the_labels_of_the_bundled_model_are_those_of_the_data_set() -> None:
    assert FASHION_MNIST_LABELS[0] == "T-shirt/top"
    assert len(FASHION_MNIST_LABELS) == 10
