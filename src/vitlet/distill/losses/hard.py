"""The teacher's decision as a label (DeiT, arXiv 2012.12877, eq. 3)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def hard_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """``CE(psi(Z_s), y_t)`` with ``y_t = argmax_c Z_t(c)``, the mean over the batch, in float32.

    student_logits, teacher_logits: float [batch, classes] -> float32 []. A decision has no
    ``temperature``: it is passed over. The decision is not smoothed, as in the paper's section 3.
    """
    return F.cross_entropy(student_logits.float(), teacher_logits.argmax(dim=1))
