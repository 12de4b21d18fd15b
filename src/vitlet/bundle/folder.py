"""A folder that appears whole or not at all, whatever happens to the process that writes it.

The folder is filled under another name beside its target, brought to the disk, and renamed. Its
writer holds a lock (``flock``) on it that dies with the process, so that a later writer can tell
what a killed one left behind from what a living one is still writing. Where the system or the
file system has no such locks, leftovers stay.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

_Filled = TypeVar("_Filled")


def place_folder(target: Path, fill: Callable[[Path], _Filled], *, replaceable: Callable[[Path], None]) -> _Filled:
    """Make the folder ``target`` with what ``fill`` writes into the empty folder it is given, and
    return what it returns.

    If something is at ``target``, ``replaceable`` is asked first, and may raise to refuse. What is
    replaced is renamed away before the new folder is renamed in, and put back if that fails; for
    that instant there is nothing at ``target``.

    Raises:
        OSError: the folder cannot be made; ``FileExistsError`` if something appeared at ``target`` meanwhile.
    """
    token = secrets.token_hex(8)
    partial = target.with_name(f".{target.name}.partial-{token}")
    replaced = target.with_name(f".{target.name}.replaced-{token}")
    clear_leftovers(target)
    if exists(target):
        replaceable(target)
    try:
        with _made(partial):
            filled = fill(partial)
            _synchronise(partial)
            if exists(target):
                replaceable(target)
                with _held(target) as free:
                    if free is False:
                        raise FileExistsError(errno.EEXIST, "another process is replacing it", str(target))
                    target.rename(replaced)
                    _rename_into_place(partial, target)
            else:
                _rename_into_place(partial, target)
            _synchronise(target.parent)
        return filled
    finally:  # also for KeyboardInterrupt and SystemExit
        _tidy(partial, replaced, target)


def try_folder(target: Path) -> None:
    """Make, fill and remove a folder as ``place_folder`` would, to learn now whether it could.

    Raises:
        OSError: it could not.
    """
    clear_leftovers(target)
    partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(8)}")
    try:
        with _made(partial):
            (partial / "probe").write_bytes(bytes(4096))
    finally:
        _tidy(partial, partial, target)


def clear_leftovers(target: Path) -> None:
    """Remove what killed writers of this target left, or put back what one had renamed away."""
    ours = re.compile(re.escape(f".{target.name}.") + r"(partial|replaced)-[0-9a-f]{16}")
    try:
        leftovers = [entry for entry in target.parent.iterdir() if ours.fullmatch(entry.name)]
    except PermissionError:  # a folder may allow writing but no listing
        return
    for leftover in leftovers:
        with _held(leftover) as free:
            if not free:
                continue
            if ".replaced-" in leftover.name:
                _settle(leftover, target)
            else:
                shutil.rmtree(leftover, ignore_errors=True)


def exists(path: Path) -> bool:
    """Whether anything is there, a dangling symbolic link included."""
    return path.exists() or path.is_symlink()


def _tidy(partial: Path, replaced: Path, target: Path) -> None:
    try:
        shutil.rmtree(partial, ignore_errors=True)
        _settle(replaced, target)
    except BaseException:  # Ctrl-C came, or came again, in the middle of it
        shutil.rmtree(partial, ignore_errors=True)
        _settle(replaced, target)
        raise


def _settle(replaced: Path, target: Path) -> None:
    if exists(target):
        shutil.rmtree(replaced, ignore_errors=True)
    elif exists(replaced):
        with suppress(FileNotFoundError):  # another process settled it first
            replaced.rename(target)


def _rename_into_place(partial: Path, target: Path) -> None:
    try:
        partial.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        raise


def _synchronise(folder: Path) -> None:
    """Bring the folder's entries to the disk, so that a power cut leaves the old state or the new."""
    if sys.platform == "win32":  # has no such call for folders
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder may allow writing but no reading
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # this file system cannot, and need not
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make an empty folder and hold its lock."""
    while True:
        folder.mkdir(exist_ok=True)
        with _held(folder) as free:
            # Another writer's clear_leftovers may have taken it for abandoned before it was locked.
            if free is False or not folder.exists():
                continue
            yield
            return


@contextmanager
def _held(folder: Path) -> Iterator[bool | None]:
    """Hold a folder's lock; yields False if another process has it, None if it cannot be locked."""
    if sys.platform == "win32":
        yield None
        return
    import fcntl

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield None
        return
    try:
        free: bool | None = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            free = False
        except OSError:  # no locks on this file system
            free = None
        yield free
    finally:
        os.close(descriptor)
