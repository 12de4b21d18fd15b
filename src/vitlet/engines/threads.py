"""Running PyTorch with a number of threads, and no longer than that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from vitlet.errors import InvalidValue

_MOST = 1024


def checked_threads(threads: int) -> int:
    """Return ``threads``.

    Raises:
        InvalidValue: below 1 or above 1024.
    """
    if not 1 <= threads <= _MOST:
        raise InvalidValue(f"threads is {threads}; it must be 1 to {_MOST}")
    return threads


@contextmanager
def using_threads(threads: int) -> Iterator[None]:
    """Let PyTorch compute with this many threads inside the ``with`` block.

    ``torch.set_num_threads`` is process-wide: it sizes OpenMP's and MKL's teams and the pool that
    QNNPACK and XNNPACK share. The number before is put back, so that sessions with different
    threads can live side by side; two of them may not run at the same time.
    """
    start_pool()
    before = torch.get_num_threads()
    if before == threads:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def start_pool() -> None:
    """Start the thread pool of QNNPACK and XNNPACK with as many threads as OpenMP has.

    It would start at its first use with a thread for each processor of the machine, and cannot be
    made smaller afterwards (PyTorch 2.12.1). In a process that is pinned to one of two processors
    its two threads then wait for each other: 2.4 ms of work took 214 ms. OpenMP counts the
    processors that the process may use.
    """
    torch.set_num_threads(torch.get_num_threads())
