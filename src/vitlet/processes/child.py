"""The child's side: ``serve`` is the ``main`` of every module that ``parent.run_task`` starts.

It reads one job as a line of JSON from standard input and answers with lines of JSON on what was
its standard output. Both are moved to private descriptors first, so that a runtime that prints or
reads cannot get between. When standard input ends, the parent is gone, and so goes this process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO, TypeVar

import msgspec

from vitlet.errors import NotWritable, Unsupported, VitletError
from vitlet.processes.messages import ANSWER, Failure, Tick
from vitlet.records import from_json, to_json

_Job = TypeVar("_Job")


class Channel:
    """Where messages go, one line each: the word for its kind, then JSON."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def tick(self, doing: str, done: int = 0, total: int = 0) -> None:
        """Give a sign of life."""
        self._send("tick", Tick(doing, done, total))

    def fail(self, failure: Failure) -> None:
        """Say why there will be no answer."""
        self._send("failure", failure)

    def answer(self, value: object) -> None:
        """Say what came out; the last message."""
        self._send(ANSWER, value)

    def _send(self, word: str, message: object) -> None:
        self._stream.write(word.encode() + b" " + msgspec.json.encode(to_json(message)) + b"\n")
        self._stream.flush()


def serve(kind: type[_Job], do: Callable[[_Job, Channel], object]) -> None:
    """Read one ``kind``, do it, and answer. Ends with exit code 0 also when the failure could be told."""
    source, answers = _private_channel()
    line = _read_line(source)
    if not line:  # the parent was gone before it had said anything
        return
    _end_with_parent(source)
    channel = Channel(answers)
    try:
        channel.answer(do(from_json(msgspec.json.decode(line), kind), channel))
    except Unsupported as error:
        channel.fail(Failure(error.reason, "unsupported"))
    except NotWritable as error:
        channel.fail(Failure(str(error), "not writable"))
    except VitletError as error:
        channel.fail(Failure(str(error)))
    except Exception as error:
        channel.fail(Failure(one_line(error)))


def one_line(error: BaseException) -> str:
    """What a runtime raised, in a line; of its many lines the first says what happened."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _private_channel() -> tuple[int, BinaryIO]:
    """Take standard input and output away from everyone else: reads get nothing, prints go to
    standard error."""
    source, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, os.fdopen(answers, "wb")


def _read_line(source: int) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        some = os.read(source, 65536)
        if not some:
            return b""
        line += some
    return bytes(line)


def _end_with_parent(source: int) -> None:
    """Kill this process and what it started as soon as the parent is gone, however it ended."""
    leads_group = hasattr(os, "getpgrp") and os.getpgrp() == os.getpid()
    if sys.platform == "linux":
        import fcntl

        # The kernel itself kills the group when the pipe ends, even while a runtime that hangs holds
        # the interpreter's lock (fcntl(2), F_SETSIG; PR_SET_PDEATHSIG would spare the children).
        fcntl.fcntl(source, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(source, fcntl.F_SETOWN, -os.getpid() if leads_group else os.getpid())
        fcntl.fcntl(source, fcntl.F_SETFL, fcntl.fcntl(source, fcntl.F_GETFL) | os.O_ASYNC)

    def wait() -> None:
        while os.read(source, 65536):
            pass
        if leads_group:
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
