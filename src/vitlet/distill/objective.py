"""The whole loss of a training step, put together from the labels' part and the teacher's."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor

from vitlet.distill.losses import DISTILLATION_LOSSES
from vitlet.distill.losses.label import label_loss
from vitlet.distill.recipe import Objective
from vitlet.errors import InvalidValue

#: Float [batch, classes] of each head: the class head's, and the distillation head's where there is one.
Logits: TypeAlias = tuple[Tensor, ...]


def total_loss(objective: Objective, heads: Logits, targets: Tensor, teacher_logits: Tensor | None) -> Tensor:
    """``(1 - weight) * CE(class head, label) + weight * D(head, teacher)`` (DeiT, 2012.12877, eqs. 2 and 3).

    heads: see ``Logits``; targets: int64 [batch] or float [batch, classes]; teacher_logits: float
    [batch, classes], None without a teacher -> float32 []. ``D`` is of the class head, of the
    distillation head, or the mean of both, as ``objective.through`` says. Without a teacher all heads learn
    the labels, for the same share.

    Raises:
        InvalidValue: heads or teacher are not those that the objective speaks of.
    """
    smoothing = objective.label_smoothing if not targets.is_floating_point() else 0.0  # mixing has smoothed already
    if objective.kind == "none":
        return _mean([label_loss(logits, targets, smoothing=smoothing) for logits in heads])
    if teacher_logits is None:
        raise InvalidValue(f"objective {objective.kind!r} needs a teacher's logits")
    if objective.has_token and len(heads) != 2:
        raise InvalidValue(f"objective {objective.kind!r} through {objective.through!r} needs a distillation token")
    taught = {"class": heads[:1], "token": heads[1:2], "both": heads}[objective.through]
    distance = DISTILLATION_LOSSES[objective.kind]
    by_teacher = _mean([distance(logits, teacher_logits, objective.temperature) for logits in taught])
    by_label = label_loss(heads[0], targets, smoothing=smoothing)
    return (1 - objective.share) * by_label + objective.share * by_teacher


def _mean(losses: list[Tensor]) -> Tensor:
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    return total / len(losses)
