"""Whether what a converter made of a model answers as the model does."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vitlet.engines.torchscript.program import example_images
from vitlet.errors import Unsupported
from vitlet.records import Classifier

#: Relative L2 error of the logits that another order of additions may bring.
MOST_ERROR = 1e-4


def require_same_answers(
    found: Callable[[Tensor], Tensor], wanted: Callable[[Tensor], Tensor], classifier: Classifier, what: str
) -> None:
    """Compare two forms of ``classifier``, images float32 [1, 3, height, width] -> logits [1, classes], on images
    that neither was made with: a trace holds only the path that one example took.

    Raises:
        Unsupported: they differ; ``what`` names the form that is wrong ("ExecuTorch's exported program").
    """
    with torch.no_grad():
        for seed in (1, 2):
            images = example_images(classifier, 1, seed=seed)
            right, answer = wanted(images), found(images)
            if answer.shape == right.shape and (answer - right).norm() <= MOST_ERROR * right.norm():
                continue
            raise Unsupported(f"{what} of {classifier.reference} answers wrongly; use the torch engine for it")
