"""What is trained, and how it is run: the two values that the training loop takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vitlet.data.labelled import LabelledImages
from vitlet.distill.decisions import DecisionStore
from vitlet.distill.order import Order, share
from vitlet.distill.processes import Processes
from vitlet.distill.recipe import Augmentation, Objective, Training
from vitlet.distill.schedule import check_optimizer
from vitlet.distill.teacher import Answer
from vitlet.distill.variation import training_transform
from vitlet.errors import InvalidValue
from vitlet.records import ImageSpec, ProgressCallback, no_progress


@dataclass(frozen=True)
class Task:
    """What is learned from what: the settings, the images, and the teacher (with a store for its answers) if
    there is one."""

    train: LabelledImages
    test: LabelledImages
    spec: ImageSpec
    training: Training
    augmentation: Augmentation
    objective: Objective
    teacher: Answer | None = None
    store: DecisionStore | None = None

    @property
    def order(self) -> Order:
        """Which image stands where in each epoch."""
        return Order(self.train.count, self.training.batch, self.augmentation.repeats, self.training.seed)

    @property
    def variation_epochs(self) -> int:
        """After how many epochs the same variations of the images return."""
        return self.augmentation.cycle or self.training.epochs


@dataclass(frozen=True)
class Running:
    """How a task is run: nothing here shapes the result but rounding. ``curves`` is a folder for TensorBoard."""

    processes: Processes
    workers: int = 0
    shard: bool = False
    stage: str = "training"
    progress: ProgressCallback = no_progress
    curves: Path | None = None


def check(task: Task, running: Running) -> None:
    """Refuse before a training what would fail in it.

    Raises:
        InvalidValue: settings do not go together.
    """
    if not task.train.count or not task.test.count:
        raise InvalidValue(f"there are {task.train.count} training and {task.test.count} test images; both are needed")
    if task.augmentation.mixes and task.training.batch % 2:
        raise InvalidValue(f"a batch of {task.training.batch} cannot be mixed in pairs; make training.batch even")
    if running.shard and task.training.ema:
        raise InvalidValue("a moving average of sharded weights is not supported; set training.ema to 0")
    if running.shard and running.processes.world == 1:
        raise InvalidValue("there is one process, so nothing to shard; start several with torchrun")
    share(task.training.batch, running.processes.rank, running.processes.world)
    training_transform(task.augmentation, task.spec)
    check_optimizer(task.training)
