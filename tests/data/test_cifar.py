"""CIFAR: what torchvision downloads, read without unpickling it."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets

from vitlet.data.datasets import load_dataset
from vitlet.data.labelled import LabelledPixels
from vitlet.errors import HubUnreachable, UnreadableImage

Pickle = Callable[[object], bytes]


@dataclass
class Fake:
    """A data set of torchvision's layout, and the hashes that torchvision checks."""

    name: str
    root: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def kind(self) -> Any:
        return getattr(torchvision.datasets, self.name)

    def write(self, name: str, content: bytes) -> None:
        path = self.root / self.kind.base_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        md5 = hashlib.md5(content).hexdigest()
        if name == self.kind.meta["filename"]:
            self.monkeypatch.setattr(self.kind, "meta", {**self.kind.meta, "md5": md5})
        for files in ("train_list", "test_list"):
            known = [[other, md5 if other == name else old] for other, old in getattr(self.kind, files)]
            self.monkeypatch.setattr(self.kind, files, known)

    def load(self, split: str = "train") -> LabelledPixels:
        return load_dataset(f"torchvision:{self.name}", split, self.root)  # type: ignore[return-value,arg-type]


@pytest.fixture(params=["CIFAR10", "CIFAR100"])
def fake(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python2_pickle: Pickle
) -> Fake:
    fake = Fake(request.param, tmp_path, monkeypatch)
    generator = np.random.default_rng(0)
    for name, _ in (*fake.kind.train_list, *fake.kind.test_list):
        data = generator.integers(0, 256, (3, 3072), dtype=np.uint8)
        labels: list[int] = generator.integers(0, 5, 3).tolist()
        keys = {"labels": labels} if fake.name == "CIFAR10" else {"fine_labels": labels, "coarse_labels": [0, 0, 0]}
        fake.write(name, python2_pickle({"batch_label": name, "data": data, **keys, "filenames": ["a", "b", "c"]}))
    names = ["airplane", "automobile", "bird", "cat", "deer"]
    key = fake.kind.meta["key"]
    fake.write(fake.kind.meta["filename"], python2_pickle({key: names, "coarse_label_names": ["x"], "num_vis": 3072}))
    return fake


@pytest.mark.parametrize(("split", "batches"), [("train", {"CIFAR10": 5, "CIFAR100": 1}), ("test", {})])
def test_images_and_labels_are_torchvisions(split: str, batches: dict[str, int], fake: Fake) -> None:
    found, expected = fake.load(split), fake.kind(fake.root, train=split == "train")
    np.testing.assert_array_equal(found.pixels, expected.data)
    assert found.labels.tolist() == expected.targets
    assert found.class_names == tuple(expected.classes)
    assert found.count == 3 * batches.get(fake.name, 1)
    assert found.size == (32, 32)
    np.testing.assert_array_equal(np.asarray(found.read(2)), np.asarray(expected[2][0]))


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("which", ["batch", "meta"])
def test_code_in_a_file_does_not_run(which: str, fake: Fake, tmp_path: Path) -> None:
    name = fake.kind.train_list[0][0] if which == "batch" else fake.kind.meta["filename"]
    fake.write(name, pickle.dumps({"data": Hostile(tmp_path / "mark")}))
    with pytest.raises(UnreadableImage, match=r"runs no code from a data set"):
        fake.load()
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": [1], "fine_labels": [1]}, "has no entry 'data'"),
        ({"data": np.zeros((1, 3072), np.uint8)}, "has no entry '(fine_)?labels'"),
        ([1, 2], "has no entry 'data'"),
        ({"data": [1], "labels": [1], "fine_labels": [1]}, "holds no images of 32 x 32 pixels"),
        ({"data": np.zeros((1, 3071), np.uint8), "labels": [1], "fine_labels": [1]}, "holds no images of 32 x 32"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [], "fine_labels": []}, "one label for each image"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["a"], "fine_labels": ["a"]}, "one label for each image"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [5], "fine_labels": [5]}, "for 5 class names; remove it"),
    ],
)
def test_a_file_of_something_else_is_named(content: object, message: str, fake: Fake, python2_pickle: Pickle) -> None:
    fake.write(fake.kind.test_list[0][0], python2_pickle(content))
    with pytest.raises(UnreadableImage, match=message):
        fake.load("test")


@pytest.mark.parametrize("names", [["a", 1], "ab", {}])
def test_names_of_classes_are_checked(names: object, fake: Fake, python2_pickle: Pickle) -> None:
    fake.write(fake.kind.meta["filename"], python2_pickle({fake.kind.meta["key"]: names}))
    with pytest.raises(UnreadableImage, match="meta: holds no names of classes"):
        fake.load("test")


@pytest.mark.parametrize("which", ["train", "test", "meta"])
def test_a_file_that_was_not_published_is_downloaded_again(
    which: str, fake: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    names = {
        "train": fake.kind.train_list[-1][0],
        "test": fake.kind.test_list[0][0],
        "meta": fake.kind.meta["filename"],
    }
    path = fake.root / fake.kind.base_folder / names[which]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(HubUnreachable, match=rf"{fake.name} is not in .* cannot be downloaded .*; check the network"):
        fake.load("test")
    assert capsys.readouterr().out == ""
