"""The parent's side of a child process: start it, listen to it, and see that it ends."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import BinaryIO, Generic, Self, TypeVar

import msgspec

from vitlet.errors import NotWritable, Unsupported, VitletError
from vitlet.processes.messages import ANSWER, Failure, Tick
from vitlet.records import from_json, to_json

_Answer = TypeVar("_Answer")

#: Seconds that a process gets to end by itself after its last word.
_GRACE_S = 5.0

#: Seconds between two looks at whether the process still lives.
_POLL_S = 0.5

#: Bytes of a line that are kept: a result with its samples, and what a runtime prints.
_LONGEST_MESSAGE = 64 << 20
_LONGEST_COMPLAINT = 4096

_SIGNAL_MEANINGS = {
    "SIGKILL": "most likely the system ran out of memory",
    "SIGILL": "it uses an instruction that this processor does not have",
    "SIGSEGV": "a fault in the runtime, or a damaged file",
    "SIGBUS": "a damaged file, or no space left for shared memory",
    "SIGABRT": "the runtime gave up",
    "SIGFPE": "a fault in the runtime",
    "SIGTERM": "someone ended it",
}


@dataclass(frozen=True)
class Task(Generic[_Answer]):
    """A job for a fresh process.

    ``module`` is run as ``python -m``; its ``main`` is ``child.serve``. ``job`` goes to it as JSON and an
    ``answer`` is expected back. ``name`` stands before every complaint ("torch fp32"), ``what``
    names the process in it ("measuring"). ``failure`` is raised when the process fails.
    """

    module: str
    job: object
    answer: type[_Answer]
    name: str
    what: str
    failure: type[VitletError]


def run_task(
    task: Task[_Answer],
    *,
    silence_limit_s: float,
    on_tick: Callable[[Tick], None] | None = None,
    temporary: Path | None = None,
) -> _Answer:
    """Do the job in a fresh process and wait for its answer.

    ``temporary`` is where the process puts its temporary files (else the system's own place).

    Whatever ends this call early (Ctrl-C, an error in ``on_tick``, the death of this process) ends
    the child and all that it started too.

    Raises:
        Unsupported: the child says that it cannot be done on this machine.
        NotWritable: the child says that its output cannot be written.
        VitletError: ``task.failure``: the process died, gave no sign of life for ``silence_limit_s``
            seconds, or answered nonsense; the message names the task and the cause.
    """
    with _Worker(task, temporary) as worker:
        while True:
            message = worker.listen(silence_limit_s)
            if isinstance(message, task.answer):
                return message
            if isinstance(message, Failure):
                if message.kind == "unsupported":
                    raise Unsupported(message.message)
                if message.kind == "not writable":
                    raise NotWritable(message.message)
                raise task.failure(f"{task.name}: {message.message}")
            if on_tick is not None and isinstance(message, Tick):
                on_tick(message)


class _Worker(Generic[_Answer]):
    """A running child process; leaving the ``with`` block ends it and all that it started."""

    def __init__(self, task: Task[_Answer], temporary: Path | None) -> None:
        self._task = task
        self._kinds: dict[str, type] = {"tick": Tick, "failure": Failure, ANSWER: task.answer}
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._complaints: deque[bytes] = deque(maxlen=20)
        try:
            self._process = subprocess.Popen(
                # -P: the user's folder may hold a "torch.py" or a "queue.py".
                [sys.executable, "-P", "-m", task.module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=None if temporary is None else {**os.environ, "TMPDIR": str(temporary.absolute())},
                start_new_session=True,  # a group of its own, ended as one; and Ctrl-C reaches us alone
            )
        except OSError as error:
            raise task.failure(f"{task.name}: no {task.what} process could be started: {error}") from error
        heard = (self._process.stdout, _LONGEST_MESSAGE, self._lines.put)
        printed = (self._process.stderr, _LONGEST_COMPLAINT, self._complaints.append)
        self._readers = [threading.Thread(target=_read, args=args, daemon=True) for args in (heard, printed)]
        self._job = msgspec.json.encode(to_json(task.job)) + b"\n"

    def __enter__(self) -> Self:
        for reader in self._readers:
            reader.start()
        if self._process.stdin is not None:
            # Stays open: its end is how the process learns that this one is gone.
            with suppress(BrokenPipeError):  # it died already; listen() will tell of what
                self._process.stdin.write(self._job)
                self._process.stdin.flush()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
        _kill_group(self._process)
        for reader in self._readers:
            reader.join(_GRACE_S)
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def listen(self, silence_limit_s: float) -> Tick | Failure | _Answer:
        """Wait for the next message.

        Raises:
            VitletError: ``task.failure``: the process ended, or was silent for too long.
        """
        deadline = monotonic() + silence_limit_s
        while True:
            # Looked at before the queue is: what it said before it ended has then arrived.
            ended = self._process.poll() is not None
            if ended:
                self._readers[0].join(_GRACE_S)
            try:
                return self._parse(self._lines.get(timeout=0 if ended else _POLL_S))
            except queue.Empty:
                if ended:
                    raise self._failure(self._cause_of_death()) from None
            if monotonic() > deadline:
                raise self._failure(f"{self._process_name} gave no sign of life for {silence_limit_s:g} seconds")

    @property
    def _process_name(self) -> str:
        return f"the {self._task.what} process"

    def _failure(self, text: str) -> VitletError:
        return self._task.failure(f"{self._task.name}: {text}")

    def _parse(self, line: bytes) -> Tick | Failure | _Answer:
        word, _, text = line.partition(b" ")
        kind = self._kinds.get(word.decode(errors="replace"))
        try:
            if kind is not None:
                message: Tick | Failure | _Answer = from_json(msgspec.json.decode(text), kind)
                return message
        except (msgspec.DecodeError, VitletError):
            pass
        raise self._failure(f"{self._process_name} answered {line[:80]!r}, which is no message")

    def _cause_of_death(self) -> str:
        """One clause about a process that has ended without a result."""
        self._readers[1].join(_GRACE_S)
        code = self._process.returncode
        lines = [line.decode(errors="replace").strip() for line in self._complaints]
        last = next((line[:300] for line in reversed(lines) if line), "")
        said = f"; the last thing it said was: {last}" if last else ""
        if code >= 0:
            return f"{self._process_name} ended with exit code {code} and no result{said}"
        try:
            name = signal.Signals(-code).name
        except ValueError:  # a real-time signal has no name
            name = f"signal {-code}"
        meaning = f" ({_SIGNAL_MEANINGS[name]})" if name in _SIGNAL_MEANINGS else ""
        return f"{self._process_name} was killed by {name}{meaning}{said}"


def _read(pipe: BinaryIO, longest: int, take: Callable[[bytes], object]) -> None:
    """Take line after line until the pipe ends."""
    with pipe:
        for line in iter(lambda: pipe.readline(longest), b""):
            take(line)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End the process and everything it started, and wait until it is gone."""
    if hasattr(os, "killpg"):
        # The group outlives its leader while a child of it runs, so this is right even after the end.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
