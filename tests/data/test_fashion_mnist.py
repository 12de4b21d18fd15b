"""FashionMNIST: read from files as they are published, refused in one sentence when they are not whole."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from vitlet.data.datasets import load_dataset
from vitlet.data.fashion_mnist import FASHION_MNIST_LABELS, read_idx
from vitlet.errors import HubUnreachable, UnreadableImage

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def idx(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)


@pytest.fixture
def labels() -> np.ndarray:
    return np.arange(7, dtype=np.uint8)


def test_reads_the_files_as_they_are_published(tmp_path, pixels, labels):
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels)))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    found = load_dataset("torchvision:FashionMNIST", "test", tmp_path)
    np.testing.assert_array_equal(found.pixels, pixels)
    np.testing.assert_array_equal(found.labels, labels)
    assert found.labels.dtype == np.int64
    assert found.class_names == FASHION_MNIST_LABELS
    assert (found.count, found.size) == (7, (28, 28))
    assert found.first(3).count == 3


def test_reads_what_torchvision_downloaded_before(tmp_path, pixels, labels):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for stem in ("train", "t10k"):
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(idx(pixels))
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(idx(labels))
    found = load_dataset("torchvision:FashionMNIST", "train", tmp_path)
    np.testing.assert_array_equal(found.pixels, pixels)
    np.testing.assert_array_equal(found.labels, labels)


def test_no_files_and_no_network_is_one_clear_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(HubUnreachable, match=r"cannot be downloaded.*dataset-fashion-mnist"):
        load_dataset("torchvision:FashionMNIST", "test", tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("dimensions", [1, 3])
def test_idx_of_any_rank(tmp_path, dimensions):
    values = np.arange(24, dtype=np.uint8).reshape((24,) if dimensions == 1 else (2, 3, 4))
    path = tmp_path / "values.gz"
    path.write_bytes(gzip.compress(idx(values)))
    found = read_idx(path)
    np.testing.assert_array_equal(found, values)
    found[...] = 0  # the caller's own, writable array


def cut(data: bytes) -> bytes:
    return gzip.compress(data)[:-20]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no gzip at all", id="not gzip"),
        pytest.param(cut(idx(np.zeros((50, 28, 28), np.uint8))), id="cut gzip"),
        pytest.param(gzip.compress(b"\0\0\x08"), id="cut header"),
        pytest.param(gzip.compress(b"\0\0\x08\x03\0\0"), id="cut dimensions"),
        pytest.param(gzip.compress(idx(np.zeros((5, 28, 28), np.uint8))[:-1]), id="a byte short"),
        pytest.param(gzip.compress(idx(np.zeros((5, 28, 28), np.uint8)) + b"\0"), id="a byte long"),
        pytest.param(gzip.compress(b"\0\0\x0d\x01" + struct.pack(">I", 4) + bytes(16)), id="float"),
        pytest.param(gzip.compress(b"\0\0\x08\0\0"), id="no dimensions"),
        pytest.param(gzip.compress(b"\0\0\x08\x02" + struct.pack(">II", 2**31, 2**31) + bytes(16)), id="huge"),
    ],
)
def test_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"images\.gz"):
        read_idx(path)


@pytest.mark.real
@pytest.mark.skipif(not DEBIAN.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_the_whole_of_fashion_mnist():
    train, test = (load_dataset("torchvision:FashionMNIST", split) for split in ("train", "test"))
    assert (train.count, test.count, train.size) == (60_000, 10_000, (28, 28))
    assert np.bincount(train.labels).tolist() == [6000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert round(train.pixels.mean() / 255, 4) == 0.2860
    assert round(train.pixels.std() / 255, 4) == 0.3530
