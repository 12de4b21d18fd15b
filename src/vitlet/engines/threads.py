"""Running PyTorch with a number of threads, and no longer than that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
def using_threads(threads: int, *, size_pool: bool = False) -> Iterator[None]:
    """Let PyTorch compute with this many threads inside the ``with`` block.

    ``torch.set_num_threads`` is process-wide: it sizes OpenMP's and MKL's teams and the pool that
    QNNPACK and XNNPACK share. The number before is put back, so that sessions with different
    threads can live side by side; two of them may not run at the same time.

    The pool starts with a thread for each processor of the machine, whatever OpenMP starts with: in a
    process that is pinned to one of two processors, ``get_num_threads()`` is 1 and the pool has 2
    threads that wait for each other (measured there: 2.4 ms of work took 214 ms). ``size_pool`` sets
    the number even if it seems right already; opening a session does that.
    """
    before = torch.get_num_threads()
    if before == threads and not size_pool:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
