"""Usual distillation: the student's probabilities towards its teacher's (Hinton et al., 1503.02531; DeiT eq. 2)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def soft_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``tau^2 KL(psi(Z_t / tau) || psi(Z_s / tau))``, the mean over the batch, in float32.

    student_logits, teacher_logits: float [batch, classes] -> float32 []. The paper writes
    ``KL(psi(Z_s / tau), psi(Z_t / tau))`` and its code computes what stands here, but divides by batch
    times classes; this is the mean over the batch, as the formula says.
    """
    student = F.log_softmax(student_logits.float() / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.float() / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
