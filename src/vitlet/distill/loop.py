"""One training run: its parts, its epochs and its steps; ``vitlet.distill.trainer.fit`` is how to use it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vitlet.distill.clock import Clock, Reporter
from vitlet.distill.decisions import StoredEpoch
from vitlet.distill.evaluation import evaluate
from vitlet.distill.events import Events
from vitlet.distill.heads import Heads
from vitlet.distill.loader import Batch, Stream, training_stream
from vitlet.distill.objective import total_loss
from vitlet.distill.processes import full_state, set_full_state
from vitlet.distill.schedule import make_optimizer, make_schedule
from vitlet.distill.state import Accuracy, Epoch, StateFile
from vitlet.distill.task import Running, Task, check
from vitlet.distill.variation import kept_generators, seed_all
from vitlet.errors import TrainingFailed
from vitlet.records import no_progress

#: Steps after which the loss is looked at: each look waits for the device.
_STEPS_BETWEEN_LOOKS = 25
#: Up to so many tokens plain attention trains faster on processors than the fused one, whose backward pass is slow
#: for short sequences: measured on two cores 59 s an epoch of 51 tokens, against 106 s.
_SHORT = 64


class LossIsNoNumber(Exception):
    """The loss, or a weight after it, is infinite or NaN."""


class Loop:
    """The parts of a run. All processes make one alike, and call its methods together."""

    def __init__(self, module: nn.Module, task: Task, state: StateFile, running: Running) -> None:
        self.task, self.state, self.running, self.processes = task, state, running, running.processes
        self.epochs: tuple[Epoch, ...] = ()
        check(task, running)
        self.module = module.to(self.processes.device)
        self.heads = Heads(self.module)
        self.called = self.processes.wrapped(self.heads, shard=running.shard)
        self.optimizer = make_optimizer(self.module, task.training)
        self.average = self._moving_average()
        self.order = task.order
        self.schedule = make_schedule(self.optimizer, task.training, self.order.steps)
        self.mix = _mixer(task)
        self.bfloat16 = self.processes.bfloat16(task.training.bfloat16)
        self.stream: Stream | None = None
        self.events = Events(None)

    @property
    def number(self) -> int:
        """Of the epoch that is running or would be next, counted from 1."""
        return len(self.epochs) + 1

    def restore(self) -> None:
        """Take up the state on disk, if there is one. Errors as ``StateFile.read``."""
        state, self.epochs = self.state.read()
        counts = self.processes.sum(torch.tensor([len(self.epochs), len(self.epochs) ** 2]))
        if int(counts[0]) != self.processes.world * len(self.epochs) or int(counts[1]) != (
            self.processes.world * len(self.epochs) ** 2
        ):
            raise TrainingFailed(f"the processes do not see the same {self.state.path}; give all the same --work")
        if state:
            set_full_state(self.module, self.optimizer, state["module"], state["optimizer"])
            if self.average is not None:
                self.average.module.load_state_dict(state["average"])
        self.events = Events(self.running.curves, begin=len(self.epochs) * self.order.steps)

    def run(self) -> tuple[Epoch, ...]:
        """Every epoch that is left; returns all."""
        training = self.task.training
        compiled = torch.compile(self.called) if training.compile else self.called
        with self._attention():
            while len(self.epochs) < training.epochs:
                reporter = self._reporter()
                self.epochs += (self._epoch(compiled, reporter),)
                self._save()
                reporter.finished(self.epochs)
                self.events.epoch(self.epochs[-1], self.order.steps)
        if self.average is not None:
            self.module.load_state_dict(self.average.module.state_dict())
        return self.epochs

    def close(self) -> None:
        """Write out what is left of the curves."""
        self.events.close()

    def _epoch(self, called: Any, reporter: Reporter) -> Epoch:
        """One pass over the training images, then the test."""
        task, processes = self.task, self.processes
        number, seed = self.number, task.training.seed
        if self.stream is None:
            self.stream = self._open()
        variation = (number - 1) % task.variation_epochs
        stored = self._stored(variation)
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
                    self.events.step(at, value, self._rate())
        seconds = clock.seconds()
        if task.store is not None and stored is None:
            task.store.finish(variation, processes)
        mean = float(processes.sum(total.cpu() / self.order.steps)) / processes.world
        self._share_buffers()
        accuracy, waited = self._accuracy(), self.stream.waited_s
        return Epoch(number, mean, accuracy, self._rate(), seconds, waited, self._unreadable(self.stream))

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
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
            taught = self._taught(images, batch.positions, stored)
            loss = total_loss(task.objective, called(images), targets, taught)
        loss.backward()  # type: ignore[no-untyped-call]
        if task.training.clip_norm:
            nn.utils.clip_grad_norm_(self.module.parameters(), task.training.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()  # here rather than before the next backward pass: it spares their memory in between
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
        if self.task.store is None:
            return logits
        # As they will be read later, or a run that was stopped and resumed would learn from other answers.
        return self.task.store.add(positions, logits)

    def _stored(self, variation: int) -> StoredEpoch | None:
        """The teacher's answers for that epoch of variations, if every process finds them."""
        stored = self.task.store.open(variation) if self.task.store is not None else None
        found = self.processes.sum(torch.tensor(int(stored is not None)))
        return stored if int(found) == self.processes.world else None

    def _share_buffers(self) -> None:
        """Each process normalises its own part of a batch; the first one's running statistics are the model's."""
        if not self.running.shard:
            for module in (self.module, *(() if self.average is None else (self.average.module,))):
                self.processes.from_first(module.buffers())

    def _unreadable(self, stream: Stream) -> int:
        """How many training images no process could read, those of epochs before a stop included."""
        mask = torch.zeros(self.task.train.count, dtype=torch.int32)
        mask[list(stream.unreadable)] = 1
        found = int((self.processes.sum(mask) > 0).sum())
        return max(found, self.epochs[-1].unreadable if self.epochs else 0)

    def _accuracy(self) -> Accuracy:
        called = Heads(self.average.module) if self.average is not None else self.heads
        return evaluate(
            called,
            self.task.test,
            self.task.spec,
            processes=self.processes,
            bfloat16=self.bfloat16,
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

    def _save(self) -> None:
        weights, moments = full_state(self.module, self.optimizer)
        average = {} if self.average is None else {"average": self.average.module.state_dict()}

        def write() -> None:
            # The loss is looked at before the weights are changed by it: the last step may have broken them.
            if not all(bool(value.isfinite().all()) for value in weights.values()):
                self.epochs = self.epochs[:-1]
                raise LossIsNoNumber("weights became infinite or NaN")
            self.state.write({"module": weights, "optimizer": moments, **average}, self.epochs)

        self.processes.first(write)

    def _attention(self) -> Any:
        tokens = _tokens(self.module)
        short = tokens is not None and tokens <= _SHORT and self.processes.device.type == "cpu"
        return sdpa_kernel(SDPBackend.MATH) if short else nullcontext()

    def _reporter(self) -> Reporter:
        progress = self.running.progress if self.processes.is_main else no_progress
        return Reporter(self.running.stage, self.task.training.epochs, self.order.steps, self.epochs, progress)

    def _rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])


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
        raise LossIsNoNumber(f"loss became {loss.item() if not bool(loss.isfinite()) else total.item()}")
    return loss.item()
