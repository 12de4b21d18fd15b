"""Hugging Face data sets: found, parted and labelled; none is decoded or run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitlet.data.datasets import load_dataset
from vitlet.data.splits import Split
from vitlet.errors import HubUnreachable, InvalidValue, NoImages, UnreadableImage, Unsupported

datasets = pytest.importorskip("datasets")

Parquet = Callable[..., Path]
Picture = Callable[..., Image.Image]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Any]:
    def load(folder: Path, split: Split, ending: str = "") -> Any:
        return load_dataset(f"hf:{folder}{ending}", split, tmp_path / "cache")

    return load


def test_a_folder_of_parquet_files(parquet: Parquet, load: Callable[..., Any], picture: Picture) -> None:
    parquet("train", 6)
    folder = parquet("test", 3, labels=[1, 1, 0])
    (folder / "README.md").write_text("# Cats and dogs\n")
    train, test = load(folder, "train"), load(folder, "test")
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 0, 1, 0, 1], [1, 1, 0])
    assert train.class_names == test.class_names == ("cat", "dog")
    assert train.labels.dtype == np.int64
    np.testing.assert_array_equal(np.asarray(train.read(5)), np.asarray(picture(seed=5)))
    assert train.name(5) == f"hf:{folder} train, row 5"
    assert load(folder, "train").digest == train.digest != test.digest


def test_a_relative_path_and_one_in_the_home_folder(
    parquet: Parquet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet("train", 4, name="csv")  # as a name, the package would take it for its own reader of CSV files
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("hf:./csv", "hf:~/csv", f"hf:{tmp_path}/csv/"):
        assert load_dataset(name, "train", tmp_path / "cache").count == 2


@pytest.mark.parametrize("name", ["validation", "valid", "val"])
def test_validation_images_stand_in_for_test_images(name: str, parquet: Parquet, load: Callable[..., Any]) -> None:
    parquet("train", 4)
    assert load(parquet(name, 3), "test").count == 3


def test_test_images_without_labels_are_passed_over(parquet: Parquet, load: Callable[..., Any]) -> None:
    parquet("train", 8)
    folder = parquet("test", 5, labels=[-1] * 5)
    assert load(folder, "test").count == 2  # held out
    assert load(parquet("validation", 3), "test").count == 3


def test_a_share_of_training_images_is_held_out_where_there_are_no_others(
    parquet: Parquet, load: Callable[..., Any], picture: Picture
) -> None:
    folder = parquet("train", 60)
    train, test = load(folder, "train"), load(folder, "test")
    assert (train.count, test.count) == (54, 6)
    assert np.bincount(test.labels).tolist() == [3, 3]
    assert not set(train.rows) & set(test.rows)
    assert test.labels.tolist() == [row % 2 for row in test.rows]
    np.testing.assert_array_equal(np.asarray(test.read(0)), np.asarray(picture(seed=int(test.rows[0]))))
    assert load(folder, "test").rows.tolist() == test.rows.tolist()


def test_test_images_alone_do_not_train(parquet: Parquet, load: Callable[..., Any]) -> None:
    folder = parquet("test", 3)
    assert load(folder, "test").count == 3
    with pytest.raises(InvalidValue, match="has no split 'train'; its splits are: test"):
        load(folder, "train")


def test_columns_of_other_names(parquet: Parquet, load: Callable[..., Any], picture: Picture) -> None:
    columns = {"photo": datasets.Image(), "animal": datasets.ClassLabel(names=["emu", "yak"])}
    train = load(parquet("train", 4, image=None, label=None, id=datasets.Value("int64"), **columns), "train")
    assert train.class_names == ("emu", "yak")
    np.testing.assert_array_equal(np.asarray(train.read(1)), np.asarray(picture(seed=int(train.rows[1]))))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": None}, r"needs one column of type Image, and has none; its columns are: label \(ClassLabel\)"),
        ({"label": datasets.Value("int64")}, r"one column of type ClassLabel, and has none; .* label \(Value\)"),
        ({"mask": datasets.Image()}, r"one column of type Image, and has 2 \(image, mask\); its columns are"),
        ({"fine": datasets.ClassLabel(names=["a", "b"])}, r"type ClassLabel, and has 2 \(label, fine\)"),
    ],
)
def test_other_columns_are_refused_by_name(
    columns: dict[str, Any], message: str, parquet: Parquet, load: Callable[..., Any]
) -> None:
    with pytest.raises(InvalidValue, match=message):
        load(parquet("train", 4, **columns), "train")


@pytest.mark.parametrize("labels", [[0, 1, -1, 0], [0, 1, None, 0]])
def test_rows_without_a_label(labels: list[int | None], parquet: Parquet, load: Callable[..., Any]) -> None:
    with pytest.raises(UnreadableImage, match="train: 1 of 4 rows have no label; remove them"):
        load(parquet("train", 4, labels=labels), "train")


def test_broken_images_are_found_by_reading(parquet: Parquet, load: Callable[..., Any], tmp_path: Path) -> None:
    folder = parquet("train", 4)
    path = folder / "train-00000-of-00001.parquet"
    table = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache")).cast_column(
        "image", datasets.Image(decode=False)
    )
    table = table.map(lambda row: {"image": {"bytes": row["image"]["bytes"][:60], "path": None}})
    table.cast_column("image", datasets.Image()).to_parquet(path)
    train = load(folder, "train")
    assert train.count == 2
    with pytest.raises(UnreadableImage, match=r"train, row \d: is "):
        train.read(0)


def test_damaged_files_are_told(parquet: Parquet, load: Callable[..., Any]) -> None:
    path = parquet("train", 4) / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UnreadableImage, match=r"parquet cannot be read: .*; get it again"):
        load(path.parent, "train")


def test_an_empty_folder_is_told(tmp_path: Path, load: Callable[..., Any]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoImages, match="empty holds no files of data; name a folder or repository of Parquet files"):
        load(tmp_path / "empty", "train")


def test_an_unknown_configuration_is_told(parquet: Parquet, load: Callable[..., Any]) -> None:
    with pytest.raises(
        InvalidValue, match=r"cannot be loaded: BuilderConfig 'big' not found. Available: \['default'\]"
    ):
        load(parquet("train", 4), "train", "@big")


def test_a_configuration(parquet: Parquet, load: Callable[..., Any]) -> None:
    folder = parquet("train", 4)
    (folder / "train-00000-of-00001.parquet").rename(folder / "few.parquet")
    parquet("train", 20)
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: few\n  data_files: few.parquet\n"
        "- config_name: many\n  data_files: train-*.parquet\n---\n"
    )
    assert load(folder, "train", "@few").count == 2
    assert load(folder, "train", "@many").count == 18
    with pytest.raises(InvalidValue, match=r"Config name is missing.*few.*many"):
        load(folder, "train")


def test_a_folder_with_an_at_sign(parquet: Parquet, load: Callable[..., Any]) -> None:
    assert load(parquet("train", 4, name="me@home"), "train").count == 2


@pytest.mark.parametrize("name", ["hf:", "hf:csv", "hf:a/b/c", "hf:a b/c", "hf:@b", "hf:a/../b", "hf:-/"])
def test_malformed_names(name: str) -> None:
    with pytest.raises(InvalidValue, match="names no Hugging Face data set; write hf:OWNER/NAME"):
        load_dataset(name, "train")


@pytest.mark.parametrize("name", ["hf:./absent", "hf:/absent/folder@config", "hf:~no_such_user/a"])
def test_a_folder_that_is_not_there(name: str) -> None:
    with pytest.raises(InvalidValue, match=r"there is no folder .*; name one that holds Parquet files"):
        load_dataset(name, "train")


@pytest.mark.parametrize(
    ("raised", "error", "message"),
    [
        (
            datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist"),
            InvalidValue,
            "the Hugging Face Hub has no data set 'a/b' that you may read; check its name",
        ),
        (
            ConnectionError("Couldn't reach\nthe Hub"),
            HubUnreachable,
            r"hf:a/b cannot be had \(Couldn't reach the Hub\)",
        ),
        (OSError(28, "No space left"), HubUnreachable, r"No space left\); check the network and the free space"),
    ],
)
def test_what_the_hub_answers_is_one_sentence(
    raised: Exception, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(error, match=message):
        load_dataset("hf:a/b", "train")


def test_name_configuration_and_folder_reach_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def note(*arguments: object, **options: object) -> dict[str, object]:
        asked.append((*arguments, options))
        return {}

    monkeypatch.setattr(datasets, "load_dataset", note)
    for name, root in (("hf:a-1/b_2.c@big", tmp_path), ("hf:a/b", None)):
        with pytest.raises(NoImages, match="has no splits"):
            load_dataset(name, "train", root)
    assert asked == [("a-1/b_2.c", "big", {"cache_dir": str(tmp_path)}), ("a/b", None, {"cache_dir": None})]


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(Unsupported, match=r"is missing; install it with: pip install 'vitlet\[datasets\]'"):
        load_dataset("hf:a/b", "train")
