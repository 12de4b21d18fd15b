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
