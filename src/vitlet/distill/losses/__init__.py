"""How far a student is from its labels and its teacher: one file for each loss, pure functions of logits.

A distillation loss is ``(student_logits, teacher_logits, temperature) -> float32 []``; a new one is a new file
and its line in ``DISTILLATION_LOSSES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from torch import Tensor

from vitlet.distill.losses.hard import hard_loss
from vitlet.distill.losses.soft import soft_loss

DistillationLoss: TypeAlias = Callable[[Tensor, Tensor, float], Tensor]

DISTILLATION_LOSSES: Mapping[str, DistillationLoss] = MappingProxyType({"hard": hard_loss, "soft": soft_loss})
