"""Checkpoints from plain web servers, kept in torch.hub's folder under torch.hub's names."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

from vitlet.errors import HubUnreachable, ModelUnreadable, NotWritable
from vitlet.records import Progress, ProgressCallback, no_progress

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0

#: torch.hub's convention: the name ends in the first digits of the file's SHA-256.
_HASH = re.compile(r"-([a-f0-9]{8,})\.")


def torch_hub_checkpoint(url: str, progress: ProgressCallback = no_progress) -> Path:
    """The file at ``url`` in torch.hub's folder, downloaded when it is not there or is damaged;
    whether it is damaged tells the hash in its name. It appears there whole or not at all.

    Raises:
        HubUnreachable: it cannot be downloaded.
        ModelUnreadable: what the server has is another file.
        NotWritable: it cannot be stored.
    """
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / PurePosixPath(urlparse(url).path).name
    if path.is_file() and _is_whole(path, path.name):
        return path
    partial = folder / f".{path.name}.{os.getpid()}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _download(url, partial, path.stem, progress)
        if not _is_whole(partial, path.name):
            raise ModelUnreadable(f"{url} is not the published file: its SHA-256 differs; try again")
        partial.replace(path)
    except OSError as error:
        raise NotWritable(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return path


def _download(url: str, path: Path, title: str, progress: ProgressCallback) -> None:
    import httpx

    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    try:
        with (
            httpx.stream("GET", url, timeout=timeout, follow_redirects=True) as response,
            path.open("wb") as file,
        ):
            response.raise_for_status()
            total = int(response.headers.get("Content-Length") or 0)
            for chunk in response.iter_raw(1 << 20):
                file.write(chunk)
                progress(Progress("download", title, file.tell(), total))
    except httpx.HTTPStatusError as error:
        raise HubUnreachable(f"{url} answers with error {error.response.status_code}; try again later") from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise HubUnreachable(f"{url} cannot be downloaded ({error}); check the network") from error


def _is_whole(path: Path, name: str) -> bool:
    promised = _HASH.search(name)
    if promised is None:
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(promised.group(1))
