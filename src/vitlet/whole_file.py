"""Writing a file whole or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from vitlet.errors import NotWritable, OutputExists

_ADVICE = {
    errno.ENOENT: "create that folder first",
    errno.ENOTDIR: "choose a path whose parents are all folders",
    errno.EISDIR: "a folder has that name: choose another",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that can be written to",
    errno.ENOSPC: "free some space there or choose another disk",
    errno.EDQUOT: "free some space there or choose another disk",
    errno.EFBIG: "raise the limit on file sizes or choose another disk",
}


def put_whole(path: Path, content: bytes | memoryview) -> None:
    """Write ``content`` to a temporary sibling of ``path``, then put it in the place of ``path`` in
    one step; on any failure, interruption included, what was at ``path`` is still there.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            # Some file systems tell of a full disk only here.
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """``put_whole``, with the failure told in one sentence.

    Raises:
        NotWritable: no such folder, no permission, no space.
    """
    try:
        put_whole(path, content)
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "choose another place")
        raise NotWritable(f"{path} cannot be written: {error.strerror or error}; {advice}") from error


def check_free(path: Path, *, overwrite: bool = False) -> None:
    """Refuse before a long job what ``write_whole`` could not write, or should not, at its end.

    Raises:
        OutputExists: a file is there and ``overwrite`` is false.
        NotWritable: a folder is there, or there is no folder for it.
    """
    if path.is_dir():
        raise NotWritable(f"{path} is a folder; give the path of a file in it")
    if path.exists() and not overwrite:
        raise OutputExists(f"{path} already exists; choose another name, or give --overwrite")
    if not path.absolute().parent.is_dir():
        parent = path.absolute().parent
        raise NotWritable(f"{path} cannot be written: there is no folder {parent}; {_ADVICE[errno.ENOENT]}")
