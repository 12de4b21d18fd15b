"""How many test images a model answers right, by each of its heads."""

from __future__ import annotations

import torch
from torch import Tensor

from vitlet.data.labelled import LabelledImages
from vitlet.distill.heads import Heads
from vitlet.distill.loader import plain_batches
from vitlet.distill.processes import Processes
from vitlet.distill.state import Accuracy
from vitlet.errors import NoImages
from vitlet.records import ImageSpec

_BATCH = 64


def evaluate(
    called: Heads,
    test: LabelledImages,
    spec: ImageSpec,
    *,
    processes: Processes,
    bfloat16: bool = False,
    workers: int = 0,
) -> Accuracy:
    """The shares of test images that the model, and each of its heads if it has two, answers right; all processes
    take part. ``called`` is put in eval mode. Unreadable images do not count.

    Raises:
        NoImages: no test image can be read.
    """
    called.eval()
    right = torch.zeros(4, dtype=torch.int64)  # mean of the heads, class head, distillation head; all images
    batches = plain_batches(test, spec, batch=_BATCH, workers=workers, rank=processes.rank, world=processes.world)
    device = processes.device
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        for batch in batches:
            heads = tuple(logits.float() for logits in called(batch.images.to(device)))
            outputs = torch.stack([_mean(heads), *(heads if len(heads) > 1 else ())])
            found = (outputs.argmax(dim=2).cpu() == batch.labels).sum(dim=1)
            right[: len(found)] += found
            right[3] += (batch.labels >= 0).sum()
    processes.sum(right)
    count = int(right[3])
    if not count:
        raise NoImages("none of the test images could be read")
    shares = [int(n) / count for n in right[:3]]
    if called.count == 1:
        return Accuracy(shares[0], images=count)
    return Accuracy(shares[0], shares[1], shares[2], images=count)


def _mean(heads: tuple[Tensor, ...]) -> Tensor:
    return (heads[0] + heads[1]) / 2 if len(heads) == 2 else heads[0]
