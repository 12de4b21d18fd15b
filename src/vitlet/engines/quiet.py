"""Keeping back what runtimes write to standard error past Python."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class _Silence:
    """How many blocks want silence at this moment, and what file descriptor 2 was before the first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.blocks = 0
        self.before: int | None = None


_silence = _Silence()


@contextmanager
def without_stderr() -> Iterator[None]:
    """Send file descriptor 2 to nowhere inside the ``with`` block.

    The descriptor belongs to the process, so blocks may be nested and overlap in several threads: the
    first one in sends it away, the last one out brings it back. What other threads write to standard
    error in the meantime is lost, too. Where standard error is closed there is nothing to keep clean.
    """
    with _silence.lock:
        if _silence.blocks == 0:
            _silence.before = _send_away()
        _silence.blocks += 1
    try:
        yield
    finally:
        with _silence.lock:
            _silence.blocks -= 1
            if _silence.blocks == 0 and _silence.before is not None:
                before, _silence.before = _silence.before, None
                _bring_back(before)


def _send_away() -> int | None:
    """Point descriptor 2 to nowhere and return a copy of what it was; None if it stays as it is."""
    _flush()
    try:
        before = os.dup(2)
    except OSError:  # closed
        return None
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
    except OSError:  # no descriptor left
        os.close(before)
        return None
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return before


def _bring_back(before: int) -> None:
    _flush()
    with suppress(OSError):
        os.dup2(before, 2)
    os.close(before)


def _flush() -> None:
    # What Python still holds back was written under the other state of the descriptor.
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
