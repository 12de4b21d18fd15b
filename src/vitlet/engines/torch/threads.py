"""Running PyTorch with a number of threads, and no longer than that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch


class _Running:
    """How many sessions compute at this moment, with how many threads, and what was set before."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.sessions = 0
        self.threads = 0
        self.before = 0


_running = _Running()


@contextmanager
def using_threads(threads: int) -> Iterator[None]:
    """Let PyTorch compute with this many threads inside the ``with`` block.

    ``torch.set_num_threads`` is process-wide: it sizes OpenMP's and MKL's teams and the pool that
    QNNPACK and XNNPACK share. So Python threads that ask for the same number go in together, others
    wait until these are out; the last one puts the number before back. (OpenMP also keeps a number
    for each Python thread, which only that thread can set: hence each sets it.)
    """
    start_pool()
    with _running.changed:
        _running.changed.wait_for(lambda: _running.sessions == 0 or _running.threads == threads)
        if _running.sessions == 0:
            _running.before, _running.threads = torch.get_num_threads(), threads
        _running.sessions += 1
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
    try:
        yield
    finally:
        with _running.changed:
            _running.sessions -= 1
            if _running.sessions == 0:
                if _running.before != threads:
                    torch.set_num_threads(_running.before)
                _running.changed.notify_all()


@cache
def start_pool() -> None:
    """Start the thread pool of QNNPACK and XNNPACK with as many threads as OpenMP has.

    It would start at its first use with a thread for each processor of the machine, and cannot be
    made smaller afterwards (PyTorch 2.12.1). In a process that is pinned to one of two processors
    its two threads then wait for each other: 2.4 ms of work took 214 ms. OpenMP counts the
    processors that the process may use.
    """
    torch.set_num_threads(torch.get_num_threads())
