"""A model hub on loopback with the real one's layout and answers, and weights that show every part."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn


@dataclass
class Hub:
    """Repositories by name: their files, and what is wrong with them.

    ``cut`` are files whose connection breaks off in the middle, ``private`` and ``gated``
    repositories that ask for a login, ``down`` makes the hub answer 503 to everything, ``longer``
    is by how many bytes it overstates large files.
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    private: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    down: bool = False
    longer: int = 0
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def add_folder(self, repository: str, folder: Path) -> None:
        self.files[repository] = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub, path = self.hub, self.path.partition("?")[0].lstrip("/")
        hub.requests.append(f"{self.command} {self.path}")
        if hub.down:
            return self._send(503, {}, b"", body)
        if path.startswith("cdn/"):
            _, digest, name = path.split("/", 2)
            content = next(c for files in hub.files.values() for c in files.values() if _sha256(c) == digest)
            return self._send_file(content, {"ETag": f'"{digest}"'}, name, body)
        if path.startswith("plain/"):  # no hub: files as they lie on a web server, for DeiT
            name = path.removeprefix("plain/")
            content = hub.files["plain"].get(name)
            return self._send(404, {}, b"", body) if content is None else self._send_file(content, {}, name, body)
        if path.startswith("api/models/"):
            return self._model_info(path.removeprefix("api/models/").split("/revision/")[0], body)
        if "/resolve/" in path:
            repository, _, rest = path.partition("/resolve/")
            revision, _, name = rest.partition("/")
            return self._resolve(repository, revision, name, body)
        return self._send(404, {}, b"", body)

    def _commit(self, repository: str) -> str:
        files = self.hub.files[repository]
        return _sha256("".join(f"{name} {_sha256(files[name])}" for name in sorted(files)).encode())[:40]

    def _refused(self, repository: str) -> tuple[int, dict[str, str]] | None:
        if repository in self.hub.gated:
            return 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model is restricted."}
        if repository in self.hub.private or repository not in self.hub.files:
            # The real hub does not tell an anonymous client whether a repository exists.
            return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Invalid username or password."}
        return None

    def _model_info(self, repository: str, body: bool) -> None:
        refused = self._refused(repository)
        if refused:
            return self._send(*refused, b"", body)
        siblings = [{"rfilename": name} for name in self.hub.files[repository]]
        info = {
            "id": repository,
            "modelId": repository,
            "sha": self._commit(repository),
            "siblings": siblings,
            "private": False,
        }
        return self._send(200, {"Content-Type": "application/json"}, json.dumps(info).encode(), body)

    def _resolve(self, repository: str, revision: str, name: str, body: bool) -> None:
        refused = self._refused(repository)
        if refused:
            return self._send(*refused, b"", body)
        commit = self._commit(repository)
        if revision not in ("main", "v1", commit):
            return self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"", body)
        content = self.hub.files[repository].get(name)
        if content is None:
            return self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b"", body)
        digest = _sha256(content)
        if name.endswith((".safetensors", ".bin")):  # large files lie elsewhere, behind a redirect
            headers = {
                "X-Linked-Size": str(len(content) + self.hub.longer),
                "X-Linked-ETag": f'"{digest}"',
                "X-Repo-Commit": commit,
            }
            other_host = self.hub.url.replace("127.0.0.1", "localhost")
            return self._send(302, {**headers, "Location": f"{other_host}/cdn/{digest}/{name}"}, b"", body)
        return self._send_file(content, {"ETag": f'"{digest[:40]}"', "X-Repo-Commit": commit}, name, body)

    def _send_file(self, content: bytes, headers: dict[str, str], name: str, body: bool) -> None:
        headers = {"Accept-Ranges": "bytes", **headers}
        if name in self.hub.cut and body:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return None
        return self._send(200, headers, content, body)

    def _send(self, status: int, headers: dict[str, str], content: bytes, body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A client that hangs up, as an interrupted one does, is no news."""


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub on loopback, empty."""
    served = Hub()
    handler = type("Handler", (_Handler,), {"hub": served})
    server = _Server(("127.0.0.1", 0), handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def hub_client(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The real clients of this process, pointed at the hub on loopback and at an empty cache."""
    from huggingface_hub import constants

    template = hub.url + constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return hub


@pytest.fixture(scope="session")
def lively() -> Callable[..., nn.Module]:
    """Give every parameter numbers that change the logits, so that a part left out shows."""

    def fill(model: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                if parameter.dim() > 1 and not name.endswith(("token", "tokens", "pos_embed", "embeddings")):
                    parameter.copy_(noise / parameter[0].numel() ** 0.5)
                elif name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "gamma", "lambda1")):
                    parameter.copy_(1 + 0.3 * noise)
                else:
                    parameter.copy_(0.3 * noise)
        return model.eval()

    return fill


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """RGB images of several shapes."""
    shapes = ((60, 90), (120, 80), (300, 301))
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (*shape, 3), dtype=np.uint8)) for shape in shapes]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
