"""The optimizer and its learning rate, by timm."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vitlet.distill.recipe import Training
from vitlet.errors import InvalidValue

#: Parameters of ViTs that are no matrices, whatever their shape: tokens and positions.
SPARED = ("prefix", "position")


def make_optimizer(module: nn.Module, training: Training) -> torch.optim.Optimizer:
    """timm's optimizer of that name; weight decay on matrices and kernels only, not on biases, norms, tokens
    and positions.

    Raises:
        InvalidValue: timm has no such optimizer, or cannot use it here.
    """
    from timm.optim._optim_factory import create_optimizer_v2
    from timm.optim._param_groups import param_groups_weight_decay

    check_optimizer(training)
    name = training.optimizer.lower()
    groups: Any = param_groups_weight_decay(module, training.weight_decay, no_weight_decay_list=SPARED)
    fused: dict[str, Any] = {"fused": True} if name == "adamw" else {}
    try:
        # The groups are made already; timm's own rule would not know tokens and positions.
        return create_optimizer_v2(
            groups, opt=name, lr=training.peak_learning_rate, weight_decay=training.weight_decay, **fused
        )
    except (AssertionError, ImportError, TypeError, ValueError, RuntimeError) as error:
        raise InvalidValue(f"optimizer {name!r} cannot be used here: {error}") from error


def check_optimizer(training: Training) -> None:
    """Whether timm has the optimizer.

    Raises:
        InvalidValue: it has not.
    """
    from timm.optim._optim_factory import list_optimizers

    if training.optimizer.lower() not in list_optimizers():
        raise InvalidValue(f"timm has no optimizer {training.optimizer!r}; adamw is DeiT's")


def make_schedule(optimizer: torch.optim.Optimizer, training: Training, steps: int) -> Any:
    """timm's cosine schedule with linear warm-up over the run's steps (``steps`` an epoch); its
    ``step_update(step)`` sets the learning rate of that step, so it needs no state of its own. (DeiT's script changes
    it once an epoch, and lets the cosine run on under the warm-up.)
    """
    from timm.scheduler.cosine_lr import CosineLRScheduler

    warmup = min(round(training.warmup_epochs * steps), training.epochs * steps - 1)
    return CosineLRScheduler(
        optimizer,
        t_initial=max(1, training.epochs * steps - warmup),
        lr_min=min(training.final_learning_rate, training.peak_learning_rate),
        warmup_t=warmup,
        warmup_lr_init=min(training.warmup_learning_rate, training.peak_learning_rate),
        warmup_prefix=True,
        t_in_epochs=False,
    )
