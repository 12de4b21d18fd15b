"""One process or many: PyTorch's own launcher (``torchrun``) says which this one is, here is what follows from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vitlet.distill.failures import told
from vitlet.distill.heads import Heads
from vitlet.errors import TrainingFailed, Unsupported
from vitlet.models.bfloat16 import has_bfloat16

DeviceChoice: TypeAlias = Literal["auto", "cpu", "cuda"]

#: After so long without an answer another process counts as gone.
_PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True)
class Processes:
    """This process is ``rank`` of ``world``, and computes on ``device``."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes and reports."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum of all processes' ``values``, in place; the same with one process."""
        if self.world > 1:
            with told():
                on_device = values.to(self.device)
                dist.all_reduce(on_device)
                values.copy_(on_device)
        return values

    def first(self, action: Callable[[], object]) -> None:
        """Let the first process do this alone; if it fails there, it fails here too.

        Raises:
            TrainingFailed: in the others. (The first raises what went wrong.)
        """
        failure: BaseException | None = None
        if self.is_main:
            try:
                action()
            except Exception as error:
                failure = error
        failed = self.sum(torch.tensor(int(failure is not None)))
        if failure is not None:
            raise failure
        if int(failed):
            raise TrainingFailed("the first process could not go on; its message says why")

    def from_first(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the first one's values, in place."""
        if self.world > 1:
            with told():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def bfloat16(self, wanted: bool | Literal["auto"]) -> bool:
        """``wanted``, where "auto" stands for whether the devices of all processes multiply bfloat16 themselves."""
        if wanted != "auto":
            return wanted
        able = self.sum(torch.tensor(int(has_bfloat16(self.device.type) or False)))
        return int(able) == self.world

    def wrapped(self, heads: Heads, *, shard: bool) -> nn.Module:
        """What to call in a training step: with several processes DistributedDataParallel, or with ``shard``
        FSDP2 (each block's weights, gradients and optimizer state parted among all).
        """
        if shard:
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh(self.device.type, (self.world,))
            for block in getattr(heads.model, "blocks", ()):
                fully_shard(block, mesh=mesh)
            fully_shard(heads, mesh=mesh)
            return heads
        if self.world == 1:
            return heads
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(heads, device_ids=[self.device] if self.device.type == "cuda" else None)


@contextmanager
def all_processes(device: DeviceChoice = "auto") -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started (NCCL on GPUs, gloo on processors), or be the only one.

    ``device`` "auto" is a CUDA device where there is one.

    Raises:
        Unsupported: "cuda" without a CUDA device.
        TrainingFailed: the other processes cannot be reached.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    found = torch.cuda.is_available()
    if device == "cuda" and not found:
        raise Unsupported("there is no CUDA device here; use --device cpu or auto")
    if device == "cpu" or not found:
        here = torch.device("cpu")
    else:
        local = int(os.environ.get("LOCAL_RANK", 0))
        if local >= torch.cuda.device_count():
            raise Unsupported(f"there are {torch.cuda.device_count()} CUDA devices for more processes; start as many")
        here = torch.device("cuda", local)
        torch.cuda.set_device(here)
    if world == 1:
        yield Processes(0, 1, here)
        return
    with told():
        on_gpu = here.type == "cuda"
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=_PATIENCE, device_id=here if on_gpu else None)
    yield Processes(rank, world, here)
    # Not after an error: NCCL would wait here for processes that may be gone, and torchrun could not end the run.
    dist.destroy_process_group()


def full_state(module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights and optimizer state, whole and on the CPU, sharded or not; every process must call it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    with told():
        weights, moments = get_state_dict(module, optimizer, options=options)
    return dict(weights), dict(moments)


def set_full_state(
    module: nn.Module, optimizer: torch.optim.Optimizer, weights: dict[str, Any], moments: dict[str, Any]
) -> None:
    """Take up what ``full_state`` gave; every process must call it with the same."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    with told():
        set_state_dict(module, optimizer, model_state_dict=weights, optim_state_dict=moments, options=options)
