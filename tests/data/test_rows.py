"""Rows of Hugging Face data sets as labelled images."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitlet.data.rows import LabelledRows
from vitlet.errors import InvalidValue, UnreadableImage

datasets = pytest.importorskip("datasets")

Picture = Callable[..., Image.Image]
Encode = Callable[..., bytes]


@pytest.fixture
def rows(picture: Picture, encode: Encode) -> LabelledRows:
    cells = [{"bytes": encode(picture(seed=row), "PNG"), "path": "a.png"} for row in range(5)]
    kinds = datasets.Features({"image": datasets.Image(decode=False)})
    table = datasets.Dataset.from_dict({"image": cells}, features=kinds)
    return LabelledRows(
        table, "image", np.arange(5), np.array([0, 1, 1, 0, 1]), ("cat", "dog"), "hf:a/b train", "print"
    )


def of_cell(rows: LabelledRows, cell: object) -> LabelledRows:
    kinds = datasets.Features({"image": datasets.Image(decode=False)})
    return replace(rows, table=datasets.Dataset.from_dict({"image": [cell] * 5}, features=kinds))


def test_images_are_read_and_named(rows: LabelledRows, picture: Picture) -> None:
    np.testing.assert_array_equal(np.asarray(rows.read(3)), np.asarray(picture(seed=3)))
    assert rows.count == 5
    assert rows.name(3) == "hf:a/b train, row 3"


def test_a_subset_keeps_the_numbers_of_the_rows(rows: LabelledRows, picture: Picture) -> None:
    some = rows.subset([4, 0, 2]).subset([2, 0])
    assert some.labels.tolist() == [1, 1]
    assert [some.name(index) for index in range(2)] == ["hf:a/b train, row 2", "hf:a/b train, row 4"]
    np.testing.assert_array_equal(np.asarray(some.read(0)), np.asarray(picture(seed=2)))
    with pytest.raises(InvalidValue, match="there are 5 images"):
        rows.subset([5])


def test_images_are_upright_rgb(rows: LabelledRows, encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = of_cell(rows, {"bytes": encode(Image.new("L", (8, 4)), "JPEG", exif=exif), "path": None}).read(0)
    assert (turned.mode, turned.size) == ("RGB", (4, 8))


def test_images_in_files(rows: LabelledRows, picture: Picture, tmp_path: Path) -> None:
    picture(seed=9).save(tmp_path / "a.png")
    found = of_cell(rows, {"bytes": None, "path": str(tmp_path / "a.png")})
    np.testing.assert_array_equal(np.asarray(found.read(0)), np.asarray(picture(seed=9)))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"bytes": b"", "path": None}, "is empty"),
        ({"bytes": b"no image", "path": None}, "is no image of a known kind"),
        ({"bytes": None, "path": "absent.png"}, "cannot be read: No such file"),
        (None, "holds no image"),
    ],
)
def test_a_broken_image_is_named(cell: object, message: str, rows: LabelledRows) -> None:
    broken = of_cell(rows, cell)
    assert broken.count == 5
    with pytest.raises(UnreadableImage, match=f"^hf:a/b train, row 1: {message}"):
        broken.read(1)


def test_a_cell_with_neither_bytes_nor_path(rows: LabelledRows) -> None:
    empty = replace(rows, table=[{"image": {"bytes": None, "path": None}}] * 5)  # datasets writes none, others may
    with pytest.raises(UnreadableImage, match="row 4: holds no image"):
        empty.read(4)


def test_the_digest_is_of_fingerprint_rows_and_labels(rows: LabelledRows) -> None:
    others = [
        replace(rows, fingerprint="other"),
        replace(rows, labels=1 - rows.labels),
        replace(rows, class_names=("cat", "cow")),
        rows.subset([0, 1, 2, 3]),
        rows.subset([3, 1, 2, 0, 4]),
    ]
    assert len({rows.digest, *(other.digest for other in others)}) == 6
    assert replace(rows, title="hf:./folder").digest == rows.digest == rows.subset(range(5)).digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": np.zeros(5)}, "rows are float64"),
        ({"rows": np.arange(4)}, r"labels are int64 \[5\]; they must be int64 \[4\]"),
        ({"class_names": ("cat",)}, "labels run from 0 to 1 for 1 class names"),
    ],
)
def test_it_is_checked(change: dict[str, object], message: str, rows: LabelledRows) -> None:
    with pytest.raises(InvalidValue, match=message):
        replace(rows, **change)  # type: ignore[arg-type]


def test_a_fresh_process_reads_from_its_own_copy(rows: LabelledRows, picture: Picture) -> None:
    code = "import pickle, sys; i = pickle.load(sys.stdin.buffer); sys.stdout.buffer.write(i.read(1).tobytes())"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(rows.subset([1, 4])),
        capture_output=True,
        check=True,
        timeout=600,
    )
    assert answer.stdout == picture(seed=4).tobytes()
    assert Image.open(io.BytesIO(rows.table[0]["image"]["bytes"])).size == (24, 16)
