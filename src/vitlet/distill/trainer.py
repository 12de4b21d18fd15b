"""The one training loop, for teachers and students: one saved state an epoch, resumable, on one device or many.

Every epoch draws its order, variations and stochastic depth from its own seed, so a run that was stopped and
resumed ends with the same weights as one that was not (same machine, threads and number of processes).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vitlet.data.labelled import LabelledImages
from vitlet.distill.clock import Clock, Reporter
from vitlet.distill.decisions import DecisionStore, StoredEpoch
from vitlet.distill.evaluation import evaluate
from vitlet.distill.events import Events
from vitlet.distill.failures import told
from vitlet.distill.heads import Heads
from vitlet.distill.loader import Batch, Stream, training_stream
from vitlet.distill.objective import total_loss
from vitlet.distill.order import Order
from vitlet.distill.processes import Processes, full_state, set_full_state
from vitlet.distill.recipe import Augmentation, Objective, Training
from vitlet.distill.schedule import make_optimizer, make_schedule
from vitlet.distill.state import Epoch, StateFile
from vitlet.distill.teacher import Answer
from vitlet.distill.variation import kept_generators, seed_all
from vitlet.errors import InvalidValue, TrainingFailed
from vitlet.records import ImageSpec, ProgressCallback, no_progress

#: Steps after which the loss is looked at: each look waits for the device.
_STEPS_BETWEEN_LOOKS = 25
#: Up to so many tokens plain attention trains faster on processors than the fused one, whose backward pass is slow
#: for short sequences: measured on two cores 59 s an epoch of 51 tokens, against 106 s.
_SHORT = 64


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
    """How a task is run: nothing here shapes the result but rounding."""

    processes: Processes
    workers: int = 0
    shard: bool = False
    stage: str = "training"
    progress: ProgressCallback = no_progress
    events: Events = field(default_factory=lambda: Events(None))


def fit(module: nn.Module, task: Task, state: StateFile, running: Running) -> tuple[Epoch, ...]:
    """Train ``module`` in place, going on from ``state`` if that holds finished epochs, and leave it in eval
    mode on the CPU; with a moving average, that is what it holds in the end. The test images are only watched:
    nothing is chosen by them. All processes call this with the same arguments.

    Returns:
        Every epoch of the run, also those that were read from ``state``.

    Raises:
        InvalidValue: settings do not go together, or the state belongs to others.
        TrainingFailed: the loss is no number any more, a state cannot be written or read, or a process died.
        NoImages: the images cannot be read.
        KeyboardInterrupt: the user stopped it; its text says how to go on.
    """
    loop = Loop(module, task, state, running)
    try:
        with told():
            return loop.run()
    except _LossIsNoNumber as error:
        raise TrainingFailed(
            f"the loss became {error} in epoch {len(loop.epochs) + 1}; {state.usable()}, or lower the learning rate"
        ) from None
    except TrainingFailed as error:
        message = str(error)
        raise (error if state.usable() in message else TrainingFailed(f"{message}; {state.usable()}")) from error
    except KeyboardInterrupt:
        of = task.training.epochs
        raise KeyboardInterrupt(f"stopped in epoch {len(loop.epochs) + 1} of {of}; {state.usable()}") from None
    finally:
        module.eval()


class Loop:
    """The parts of a run, and the run itself; ``fit`` is how to use it."""

    def __init__(self, module: nn.Module, task: Task, state: StateFile, running: Running) -> None:
        self.task, self.state, self.running, self.processes = task, state, running, running.processes
        self.epochs: tuple[Epoch, ...] = ()
        _check(task, running)
        self.module = module.to(self.processes.device)
        self.heads = Heads(self.module)
        self.called = self.processes.wrapped(self.heads, shard=running.shard)
        self.optimizer = make_optimizer(self.module, task.training)
        self.average = self._moving_average()
        self.order = task.order
        self.schedule = make_schedule(self.optimizer, task.training, self.order.steps)
        self.mix = _mixer(task)
        self.stream: Stream | None = None

    def run(self) -> tuple[Epoch, ...]:
        training = self.task.training
        self._restore()
        compiled = torch.compile(self.called) if training.compile else self.called
        with self._attention():
            while len(self.epochs) < training.epochs:
                reporter = self._reporter()
                self.epochs += (self._epoch(compiled, reporter),)
                self._save()
                reporter.finished(self.epochs)
                self.running.events.epoch(self.epochs[-1], self.order.steps)
        if self.average is not None:
            self.module.load_state_dict(self.average.module.state_dict())
        return self.epochs

    def _epoch(self, called: Any, reporter: Reporter) -> Epoch:
        """One pass over the training images, then the test."""
        task, processes = self.task, self.processes
        number, seed = len(self.epochs) + 1, task.training.seed
        if self.stream is None:
            self.stream = self._open()
        variation = (number - 1) % task.variation_epochs
        stored = task.store.open(variation) if task.store is not None else None
        clock, total = Clock(), torch.zeros((), device=processes.device)
        self.module.train()
        # Stochastic depth draws from torch's own generator: it is seeded here and given back as it was.
        devices = [processes.device] if processes.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed((seed * 1_000_003 + number) * 1021 + processes.rank)
            for step, batch in enumerate(self.stream.epoch(variation)):
                at = (number - 1) * self.order.steps + step
                loss = self.step(called, batch, at, variation=variation, step=step, stored=stored)
                total += loss
                if step % _STEPS_BETWEEN_LOOKS == 0 or step == self.order.steps - 1:
                    value = _number(loss, total)
                    reporter.step(step, value)
                    self.running.events.step(at, value, self._rate())
        seconds = clock.seconds()
        if task.store is not None and stored is None:
            task.store.finish(variation, processes)
        mean = float(processes.sum(total.cpu() / self.order.steps)) / processes.world
        unreadable = int(processes.sum(torch.tensor(len(self.stream.unreadable))))
        return Epoch(number, mean, self._accuracy(), self._rate(), seconds, self.stream.waited_s, unreadable)

    def step(
        self,
        called: Any,
        batch: Batch,
        global_step: int,
        *,
        variation: int = 0,
        step: int = 0,
        stored: StoredEpoch | None = None,
    ) -> Tensor:
        """One step of the optimizer, the ``global_step``th of the run, in which the batch is the ``step``th of its
        epoch of variations; ``called`` is the model's heads as they are called. Returns the loss, float32 [].
        """
        task, device = self.task, self.processes.device
        self.schedule.step_update(global_step)
        images = batch.images.to(device, non_blocking=True)
        targets = batch.labels.to(device, non_blocking=True)
        if self.mix is not None:
            with kept_generators():
                seed_all(self.order.mix_seed(variation, step))
                images, targets = self.mix(images, targets)
        with torch.autocast(device.type, torch.bfloat16, enabled=task.training.bfloat16):
            taught = self._taught(images, batch.positions, stored)
            loss = total_loss(task.objective, called(images), targets, taught)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if task.training.clip_norm:
            nn.utils.clip_grad_norm_(self.module.parameters(), task.training.clip_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.module, step=global_step + 1)
        return loss.detach()

    def _taught(self, images: Tensor, positions: Tensor, stored: StoredEpoch | None) -> Tensor | None:
        """The teacher's logits for these images, varied and mixed as the student sees them."""
        if stored is not None:
            return stored.logits(positions).to(images.device)
        if self.task.teacher is None:
            return None
        with torch.no_grad():
            logits = self.task.teacher(images)
        if self.task.store is not None:
            self.task.store.add(positions, logits)
        return logits

    def _accuracy(self) -> Any:
        called = Heads(self.average.module) if self.average is not None else self.heads
        return evaluate(
            called,
            self.task.test,
            self.task.spec,
            processes=self.processes,
            bfloat16=self.task.training.bfloat16,
            workers=self.running.workers,
        )

    def _open(self) -> Stream:
        return training_stream(
            self.task.train,
            self.task.spec,
            self.task.augmentation,
            self.order,
            workers=self.running.workers,
            rank=self.processes.rank,
            world=self.processes.world,
            pin=self.processes.device.type == "cuda",
        )

    def _moving_average(self) -> Any:
        if not self.task.training.ema:
            return None
        from timm.utils.model_ema import ModelEmaV3

        # With a warm-up, or the average of a short run would be its first weights.
        return ModelEmaV3(self.module, decay=self.task.training.ema, use_warmup=True)

    def _restore(self) -> None:
        state, self.epochs = self.state.read()
        if state:
            set_full_state(self.module, self.optimizer, state["module"], state["optimizer"])
            if self.average is not None:
                self.average.module.load_state_dict(state["average"])

    def _save(self) -> None:
        weights, moments = full_state(self.module, self.optimizer)
        if self.processes.is_main:
            average = {} if self.average is None else {"average": self.average.module.state_dict()}
            self.state.write({"module": weights, "optimizer": moments, **average}, self.epochs)
        self.processes.wait()

    def _attention(self) -> Any:
        tokens = _tokens(self.module)
        short = tokens is not None and tokens <= _SHORT and self.processes.device.type == "cpu"
        return sdpa_kernel(SDPBackend.MATH) if short else nullcontext()

    def _reporter(self) -> Reporter:
        progress = self.running.progress if self.processes.is_main else no_progress
        return Reporter(self.running.stage, self.task.training.epochs, self.order.steps, self.epochs, progress)

    def _rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])


def _check(task: Task, running: Running) -> None:
    """Refuse before the training what would fail in it."""
    if not task.train.count or not task.test.count:
        raise InvalidValue(f"there are {task.train.count} training and {task.test.count} test images; both are needed")
    if task.augmentation.mixes and task.training.batch % 2:
        raise InvalidValue(f"a batch of {task.training.batch} cannot be mixed in pairs; make training.batch even")
    if running.shard and task.training.ema:
        raise InvalidValue("a moving average of sharded weights is not supported; set training.ema to 0")


def _mixer(task: Task) -> Any:
    """timm's Mixup and CutMix: (images, labels) -> (mixed images, targets float32 [batch, classes])."""
    if not task.augmentation.mixes:
        return None
    from timm.data.mixup import Mixup

    make: Any = Mixup
    return make(
        mixup_alpha=task.augmentation.mixup,
        cutmix_alpha=task.augmentation.cutmix,
        prob=task.augmentation.mix_share,
        label_smoothing=task.objective.label_smoothing,
        num_classes=len(task.train.class_names),
    )


def _tokens(module: nn.Module) -> int | None:
    """The tokens of a canonical ViT's sequence."""
    position, prefix = getattr(module, "position", None), getattr(module, "prefix", None)
    return None if position is None or prefix is None else int(position.shape[1] + prefix.shape[1])


def _number(loss: Tensor, total: Tensor) -> float:
    """The loss as a number; the sum so far shows one that was none in between."""
    if not bool(total.isfinite()):
        raise _LossIsNoNumber(loss.item() if not bool(loss.isfinite()) else total.item())
    return loss.item()


class _LossIsNoNumber(Exception):
    """The loss is infinite or NaN."""


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Run with this many torch threads, then with as many as before."""
    if count is not None and not 1 <= count <= 1024:
        raise InvalidValue(f"threads is {count}; it must be 1 to 1024")
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
