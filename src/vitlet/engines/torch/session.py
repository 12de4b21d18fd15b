"""A session over anything that PyTorch can call in this process."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vitlet.engines.inputs import checked_images
from vitlet.engines.torch.threads import using_threads
from vitlet.engines.torchscript.program import one_line
from vitlet.errors import InvalidValue, ModelUnreadable
from vitlet.records import Artifact


class TorchSession:
    """Runs ``forward`` (images float32 [batch, 3, height, width] -> logits [batch, classes]) with
    ``threads`` threads on the artifact's device, without gradients. Not shared between threads.
    """

    def __init__(self, forward: Callable[[Tensor], Tensor], artifact: Artifact, threads: int) -> None:
        self._forward: Callable[[Tensor], Tensor] | None = forward
        self._artifact = artifact
        self._threads = threads

    def run(self, images: np.ndarray) -> np.ndarray:
        """images: float32 [batch, 3, height, width] -> logits: float32 [batch, classes], a
        C-contiguous array that shares memory with nothing.

        Raises:
            InvalidValue: wrong shape or dtype, or the session was closed.
            ModelUnreadable: PyTorch fails on it: damaged weights, or no memory for so many images.
        """
        if self._forward is None:
            raise InvalidValue(f"the session of {self._artifact.path} was closed; open the artifact again")
        ready = checked_images(images, height=self._artifact.height, width=self._artifact.width)
        with using_threads(self._threads), torch.inference_mode():
            try:
                # Copies to a GPU and back; on the CPU the images stay where they are. The copy back waits.
                logits = self._forward(torch.from_numpy(ready).to(self._artifact.device)).float().cpu()
            except RuntimeError as error:
                raise ModelUnreadable(
                    f"{self._artifact.path} fails on {len(ready)} images ({one_line(error)}); "
                    "try fewer at a time, or export it again"
                ) from error
            return np.array(logits.numpy(), dtype=np.float32, order="C")

    def close(self) -> None:
        """Give the model's memory back; ``run`` refuses from now on."""
        self._forward = None
