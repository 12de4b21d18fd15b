"""What the data sets that torchvision knows have in common: where they lie, and how a failed download is told."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from http.client import HTTPException
from io import StringIO
from pathlib import Path

from vitlet.errors import HubUnreachable


def cache_folder() -> Path:
    """Where data sets lie that no folder was named for."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vitlet" / "datasets"


@contextmanager
def downloading(name: str, root: Path, advice: str = "") -> Iterator[None]:
    """Around a call of torchvision's that downloads ``name`` to ``root``. It prints; our standard output is for
    results. ``advice`` ends the sentence about what to do.

    Raises:
        HubUnreachable: it could not be downloaded, came damaged, or could not be stored.
    """
    try:
        with redirect_stdout(StringIO()):
            yield
    except (OSError, RuntimeError, HTTPException, EOFError, tarfile.TarError, zlib.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise HubUnreachable(
            f"{name} is not in {root} and cannot be downloaded ({reason}); check the network{advice}"
        ) from error
