"""Cross-entropy with the true label: what a model learns without a teacher."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def label_loss(logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy, the mean over the batch, in float32.

    logits: float [batch, classes]; targets: int64 [batch], or float [batch, classes] probabilities (of mixed
    images) -> float32 []. ``smoothing`` moves this share of the target evenly onto all classes
    (1512.00567, section 7).
    """
    return F.cross_entropy(logits.float(), targets, label_smoothing=smoothing)
