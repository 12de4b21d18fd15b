"""What a student is trained to minimise: pure functions of logits, one for each objective."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def label_loss(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with the label, the mean over the batch: no distillation.

    logits: float [batch, classes]; labels: int64 [batch] -> float32 [].
    ``smoothing`` moves this share of the target evenly onto all classes (1512.00567, section 7).
    """
    return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)


def hard_distillation_loss(
    class_logits: Tensor,
    distillation_logits: Tensor,
    labels: Tensor,
    teacher_decisions: Tensor,
    *,
    smoothing: float = 0.0,
) -> Tensor:
    """Hard-label distillation (DeiT, arXiv 2012.12877, eq. 3), the mean over the batch::

        1/2 CE(psi(Z_class), y) + 1/2 CE(psi(Z_distillation), y_t),  y_t = argmax_c Z_teacher(c)

    class_logits, distillation_logits: float [batch, classes]; labels, teacher_decisions: int64
    [batch] -> float32 []. ``smoothing`` applies to the true label alone: the teacher's decision
    stays hard, as in the paper's section 3.
    """
    by_label = label_loss(class_logits, labels, smoothing=smoothing)
    by_teacher = label_loss(distillation_logits, teacher_decisions)
    return (by_label + by_teacher) / 2
