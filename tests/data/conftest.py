"""Pictures and a loopback web server for the tests of ``vitlet.data``."""

from __future__ import annotations

import gzip
import io
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(width: int = 24, height: int = 16, seed: int = 0) -> Image.Image:
    """Random pixels: every wrong crop, turn or channel order shows."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG made by hand, for what Pillow does not write; ``rows`` each begin with a filter byte 0."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.fixture(name="encode")
def _encode() -> Callable[..., bytes]:
    return encode


@pytest.fixture(name="picture")
def _picture() -> Callable[..., Image.Image]:
    return picture


@pytest.fixture(name="png")
def _png() -> Callable[..., bytes]:
    return png


def python2_pickle(value: object) -> bytes:
    """As Python 2 and its NumPy wrote it, protocol 2; CIFAR's files are such pickles."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value: object) -> bytes:
    if isinstance(value, np.ndarray):
        begun = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + _opcodes("b") + b"tR"
        kind = b"cnumpy\ndtype\n(" + _opcodes(value.dtype.str[1:]) + b"K\x00K\x01tR(K\x03U\x01|NNN"
        kind += _opcodes(-1) * 2 + b"K\x00tb"
        shape = b"(" + b"".join(map(_opcodes, value.shape)) + b"t"
        is_fortran = not value.flags.c_contiguous
        flag = b"\x88" if is_fortran else b"\x89"
        data = value.tobytes("F" if is_fortran else "C")
        return begun + b"(K\x01" + shape + kind + flag + _opcodes(data.decode("latin1")) + b"tb"
    match value:
        case int():
            return b"J" + struct.pack("<i", value)
        case str():
            content = value.encode("latin1")
            return b"T" + struct.pack("<I", len(content)) + content
        case list():
            return b"](" + b"".join(map(_opcodes, value)) + b"e"
        case dict():
            return b"}(" + b"".join(_opcodes(part) for entry in value.items() for part in entry) + b"u"
    raise TypeError(type(value))


@pytest.fixture(name="python2_pickle")
def _python2_pickle() -> Callable[[object], bytes]:
    return python2_pickle


@pytest.fixture
def parquet(tmp_path: Path) -> Callable[..., Path]:
    """Write ``rows`` images as a split of a Hugging Face data set: tmp_path/NAME/SPLIT-00000-of-00001.parquet. Row i
    of a split is ``picture(seed=i)``, its class i modulo the number of classes; ``labels`` says otherwise.
    """

    def write(
        split: str, rows: int, *, name: str = "parquet", labels: list[int | None] | None = None, **features: Any
    ) -> Path:
        from datasets import ClassLabel, Dataset, Features, disable_progress_bars
        from datasets import Image as ImageFeature

        disable_progress_bars()
        features = {"image": ImageFeature(), "label": ClassLabel(names=["cat", "dog"])} | features
        labels = [row % 2 for row in range(rows)] if labels is None else labels
        images = [{"bytes": encode(picture(seed=row), "PNG"), "path": None} for row in range(rows)]
        content = {key: images if isinstance(kind, ImageFeature) else labels for key, kind in features.items() if kind}
        kinds = Features({key: kind for key, kind in features.items() if kind})
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        Dataset.from_dict(content, features=kinds).to_parquet(folder / f"{split}-00000-of-00001.parquet")
        return folder

    return write


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """photos/{cat,dog}/{0,1,2}.png, one loose image and a text file."""
    root = tmp_path / "photos"
    for number, label in enumerate(("cat", "dog")):
        (root / label).mkdir(parents=True)
        for index in range(3):
            picture(seed=10 * number + index).save(root / label / f"{index}.png")
    picture(seed=99).save(root / "loose.png")
    (root / "notes.txt").write_text("no image")
    return root


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path, _, argument = self.path.strip("/").partition("/")
        getattr(self, f"answer_{path}", self.answer_missing)(argument)

    def _reply(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def answer_missing(self, _: str) -> None:
        self._reply(b"not here", 404)

    def answer_image(self, _: str) -> None:
        self._reply(encode(picture(), "PNG"), Content_Type="image/png")

    def answer_page(self, _: str) -> None:
        self._reply(b"<html>no image</html>", Content_Type="text/html")

    def answer_bytes(self, count: str) -> None:
        self._reply(b"x" * int(count))

    def answer_endless(self, _: str) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"x" * 65536)

    def answer_zipped(self, count: str) -> None:
        self._reply(gzip.compress(b"\0" * int(count)), Content_Encoding="gzip")

    def answer_short(self, _: str) -> None:
        self._reply(b"only this", Content_Length="1000")

    def answer_drip(self, _: str) -> None:
        """Never stops, but never stays silent for long either."""
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"x")
            time.sleep(0.05)

    def answer_dripping_header(self, _: str) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
        while True:
            self.wfile.write(b"x")
            time.sleep(0.05)

    def answer_hops(self, count: str) -> None:
        target = f"/hops/{int(count) - 1}" if int(count) > 1 else "/image"
        self._reply(b"", 302, Location=target)

    def answer_to_file(self, _: str) -> None:
        self._reply(b"", 302, Location="file:///etc/passwd")

    def answer_asked(self, _: str) -> None:
        self._reply(self.headers["User-Agent"].encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what some tests are about."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a web server on loopback, without a slash at its end."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with _Server(("127.0.0.1", 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()
