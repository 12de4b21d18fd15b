"""The run's curves for TensorBoard, which the field watches its trainings with (the extra ``tensorboard``)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from vitlet.distill.state import Epoch
from vitlet.errors import Unsupported


class Events:
    """Writes loss and learning rate of steps, and what each epoch brought, as event files in ``folder``; with
    None nothing at all. A run that goes on at step ``begin`` takes back what was written of later ones.

    Raises:
        Unsupported: TensorBoard is not installed.
    """

    def __init__(self, folder: Path | None, begin: int = 0) -> None:
        self._writer: Any = None if folder is None else summary_writer()(str(folder), purge_step=begin or None)

    def step(self, number: int, loss: float, learning_rate: float) -> None:
        """After step ``number`` of the whole run."""
        if self._writer is not None:
            self._writer.add_scalar("train/loss", loss, number)
            self._writer.add_scalar("train/learning_rate", learning_rate, number)

    def epoch(self, epoch: Epoch, steps: int) -> None:
        """After an epoch; ``steps`` are those of one epoch, so that both curves share an axis."""
        if self._writer is None:
            return
        found = {
            "train/epoch_loss": epoch.loss,
            "train/images_waited_share": epoch.waited_s / max(epoch.seconds, 1e-9),
            "test/top1": epoch.accuracy.top1,
            "test/top1_class_head": epoch.accuracy.class_head,
            "test/top1_distillation_head": epoch.accuracy.distillation_head,
        }
        for name, value in found.items():
            if value is not None:
                self._writer.add_scalar(name, value, epoch.number * steps)
        self._writer.flush()

    def close(self) -> None:
        """Write out what is left."""
        if self._writer is not None:
            self._writer.close()


def summary_writer() -> Any:
    """PyTorch's writer of event files.

    Raises:
        Unsupported: TensorBoard is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own dependencies
            from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise Unsupported(
            "--tensorboard needs TensorBoard; install it with: pip install 'vitlet[tensorboard]'"
        ) from error
    return SummaryWriter
