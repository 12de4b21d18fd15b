"""Training a model, teacher or student: one saved state an epoch, resumable, on one device or many.

Every epoch draws its order, variations and stochastic depth from its own seed, so a run that was stopped and
resumed ends with the same weights as one that was not (same machine, threads and number of processes).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from vitlet.distill.failures import told
from vitlet.distill.loop import Loop, LossIsNoNumber
from vitlet.distill.state import Epoch, StateFile
from vitlet.distill.task import Running, Task
from vitlet.errors import InvalidValue, TrainingFailed


def fit(module: nn.Module, task: Task, state: StateFile, running: Running) -> tuple[Epoch, ...]:
    """Train ``module`` in place, going on from ``state`` if that holds finished epochs, and leave it in eval
    mode on the processes' device; with a moving average, that is what it holds in the end. The test images are only
    watched: nothing is chosen by them. All processes call this with the same arguments.

    Returns:
        Every epoch of the run, also those that were read from ``state``.

    Raises:
        InvalidValue: settings do not go together, or the state belongs to others.
        TrainingFailed: the loss is no number any more, a state cannot be written or read, or a process died.
        NoImages: the images cannot be read.
        KeyboardInterrupt: the user stopped it; its text says how to go on.
    """
    with told():
        loop = Loop(module, task, state, running)
        loop.restore()
    try:
        with told():
            return loop.run()
    except LossIsNoNumber as error:
        # The same settings would come to the same end, so going on from the state is no way out.
        raise TrainingFailed(
            f"the {error} in epoch {loop.number}; start again in another --work with a lower training.learning_rate, "
            f"or with training.clip_norm=1 ({state.usable()})"
        ) from None
    except TrainingFailed as error:
        message = str(error)
        if state.usable() in message:
            raise
        raise TrainingFailed(f"{message}; {state.usable()}") from error
    except KeyboardInterrupt:
        of = task.training.epochs
        raise KeyboardInterrupt(f"stopped in epoch {loop.number} of {of}; {state.usable()}") from None
    finally:
        loop.close()
        module.eval()


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Run with this many torch threads, then with as many as before."""
    if count is not None and not 1 <= count <= 1024:
        raise InvalidValue(f"threads is {count}; it must be 1 to 1024")
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
