"""Pickles of arrays: read as NumPy would, and nothing is run."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vitlet.data.array_pickle import read_pickle
from vitlet.errors import UnreadableImage

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 7), dtype=np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "batch"


def test_what_python_2_wrote(path: Path, python2_pickle: Callable[[object], bytes]) -> None:
    written = {"data": PIXELS, "labels": [1, 2, -3], "names": ["caf\xe9", ""]}
    path.write_bytes(python2_pickle(written))
    found, expected = read_pickle(path), pickle.loads(path.read_bytes(), encoding="latin1")
    np.testing.assert_array_equal(found.pop("data"), PIXELS)
    np.testing.assert_array_equal(expected.pop("data"), PIXELS)  # the test's own writer writes what NumPy reads
    del written["data"]
    assert found == expected == written


def test_columns_before_rows(path: Path, python2_pickle: Callable[[object], bytes]) -> None:
    path.write_bytes(python2_pickle({"data": np.asfortranarray(PIXELS)}))
    np.testing.assert_array_equal(read_pickle(path)["data"], PIXELS)
    np.testing.assert_array_equal(pickle.loads(path.read_bytes(), encoding="latin1")["data"], PIXELS)


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_what_today_s_numpy_writes_under_old_and_new_names(protocol: int, module: bytes, path: Path) -> None:
    written = pickle.dumps({"data": PIXELS}, protocol)
    own = b"numpy._core.multiarray"
    if protocol == 3:
        written = written.replace(b"c" + own, b"c" + module)
    else:  # a frame and each string stand behind their lengths
        body = written[11:].replace(bytes([len(own)]) + own, bytes([len(module)]) + module)
        written = b"\x80\x04\x95" + struct.pack("<Q", len(body)) + body
    assert module in written
    path.write_bytes(written)
    np.testing.assert_array_equal(read_pickle(path)["data"], PIXELS)


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


class Evaluating(Hostile):
    def __reduce__(self) -> tuple[object, ...]:
        return eval, (f"__import__('pathlib').Path({str(self.mark)!r}).touch()",)


@pytest.mark.parametrize("kind", [Hostile, Evaluating])
@pytest.mark.parametrize("protocol", range(6))
def test_code_is_refused_and_does_not_run(kind: type[Hostile], protocol: int, path: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    content = pickle.dumps({"data": [kind(mark)]}, protocol)
    pickle.loads(content)
    assert mark.exists()  # it does what it is here for
    mark.unlink()
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"batch: names \w+\.[\w.]+, and vitlet runs no code from a data set"):
        read_pickle(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "name",
    [
        *("numpy load", "numpy.core.multiarray fromfile", "numpy._core.multiarray scalar", "numpy.ndarray __new__"),
        *("numpy dtype.type", "numpy.core.numeric _frombuffer", "builtins getattr", "_codecs encode", "numpy f2py.os"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_no_other_name_is_looked_up(name: str, protocol: int, path: Path) -> None:
    module, attribute = name.split()
    if protocol == 2:
        path.write_bytes(b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + b".")
    else:
        strings = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, attribute))
        path.write_bytes(b"\x80\x04" + strings + b"\x93.")
    with pytest.raises(UnreadableImage, match=f"names {module}.{attribute}"):
        read_pickle(path)


@pytest.mark.parametrize("array", [PIXELS.astype(np.int64), np.array([1.5]), np.array([None, 1], dtype=object)])
def test_arrays_of_anything_but_bytes_are_refused(array: np.ndarray, path: Path) -> None:
    path.write_bytes(pickle.dumps({"data": array}, 4))
    with pytest.raises(UnreadableImage, match=r"holds an array of '\w+', and only arrays of bytes are read"):
        read_pickle(path)


def test_a_shape_that_does_not_fit_is_refused(path: Path) -> None:
    path.write_bytes(pickle.dumps({"data": PIXELS}, 4).replace(b"K\x03K\x07\x86", b"K\x04K\x07\x86"))
    with pytest.raises(UnreadableImage, match=r"holds an array of shape \[4, 7\] with 21 bytes"):
        read_pickle(path)


def whole() -> bytes:
    return pickle.dumps({"data": PIXELS, "labels": [1, 2, 3]}, 4)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no pickle at all", id="text"),
        pytest.param(whole()[:-30], id="cut"),
        pytest.param(b"\x80\x04\x95" + b"\xff" * 8 + whole()[11:], id="a frame of 2^64 bytes"),
        pytest.param(b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(K\x01tR.", id="an array of no kind"),
        pytest.param(b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R.", id="no arguments"),
        pytest.param(b"\x80\x02cnumpy\nndarray\n)R}b.", id="an array with attributes"),
        pytest.param(b"\x80\x02cnumpy\ndtype\n)R.", id="a type of nothing"),
        pytest.param(b"\x80\x02P1\n.", id="a persistent name"),
    ],
)
def test_what_is_no_whole_pickle_is_named(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"batch: .*get the data set again"):
        read_pickle(path)


def test_an_array_that_was_never_filled_is_refused(path: Path) -> None:
    path.write_bytes(b"\x80\x02}U\x04datacnumpy\nndarray\n)Rs.")
    with pytest.raises(UnreadableImage, match="batch"):
        read_pickle(path)


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(UnreadableImage, match="batch: cannot be read: No such file"):
        read_pickle(path)
