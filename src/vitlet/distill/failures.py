"""What PyTorch raises when something outside the program fails, as one sentence with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from vitlet.errors import TrainingFailed

_GONE = (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)
#: Words of gloo's own errors, which have no class of their own: they name its C++ files.
_GLOO = ("gloo", "Connection closed by peer", "Connection reset", "NCCL")


@contextmanager
def told() -> Iterator[None]:
    """Turn such errors into ``TrainingFailed``; every other one passes."""
    try:
        yield
    except RuntimeError as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        raise TrainingFailed(sentence) from error


def _sentence(error: RuntimeError) -> str | None:
    reason = (str(error).splitlines() or [""])[0][:160]
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
        return (
            "the device has too little memory for this; make training.batch smaller, or use more devices with --shard"
        )
    if type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
        return f"torch.compile failed ({reason}); it needs a C++ compiler: install one, or set training.compile=false"
    if isinstance(error, _GONE) or any(word in str(error) for word in _GLOO):
        return f"another process of this run ended or cannot be reached ({reason})"
    if reason.startswith("DataLoader worker (pid"):  # what a living one raises is "Caught ... in DataLoader worker"
        return f"a process that reads images died ({reason}); with too little memory take fewer of them (--workers)"
    return None
