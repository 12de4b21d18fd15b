"""The one training loop, for teachers and students: AdamW, one saved state an epoch, resumable.

Each epoch draws its order, augmentation and stochastic depth from its own seed, so a run that was
stopped and resumed ends with the same weights as one that was not (same threads and machine).
"""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vitlet.data.datasets import LabelledPixels
from vitlet.distill.augment import augmented, normalised
from vitlet.distill.objective import Objective
from vitlet.distill.recipe import Recipe
from vitlet.distill.state import Accuracy, Epoch, StateFile
from vitlet.errors import InvalidValue, TrainingFailed
from vitlet.records import ImageSpec, Progress, ProgressCallback, no_progress

_EVALUATION_BATCH = 500
_STEPS_BETWEEN_REPORTS = 50


def fit(
    module: nn.Module,
    objective: Objective,
    train: LabelledPixels,
    test: LabelledPixels,
    spec: ImageSpec,
    recipe: Recipe,
    state: StateFile,
    *,
    stage: str = "training",
    progress: ProgressCallback = no_progress,
) -> tuple[Epoch, ...]:
    """Train ``module`` in place, going on from ``state`` if that holds finished epochs, and leave it
    in eval mode. The test images are only watched: nothing is chosen by them.

    Returns:
        Every epoch of the run, also those that were read from ``state``.

    Raises:
        InvalidValue: the data do not fit the spec, or the state belongs to other settings.
        TrainingFailed: the loss is no number any more, or the state cannot be written or read.
        KeyboardInterrupt: the user stopped it; its text says how to go on.
    """
    for name, part in (("training", train), ("test", test)):
        if not part.count or part.size != (spec.height, spec.width):
            raise InvalidValue(
                f"the {name} data are {part.count} images of {part.size[0]}x{part.size[1]}; "
                f"the model needs at least one, of {spec.height}x{spec.width}"
            )
    steps = -(-train.count // recipe.batch)
    optimizer = _adamw(module, recipe)
    epochs = state.read(module, optimizer)
    try:
        # For the short sequences of small images the fused attention's backward pass is slow on CPUs:
        # measured on two cores 106 s an epoch, against 59 s with plain attention.
        with sdpa_kernel(SDPBackend.MATH):
            while len(epochs) < recipe.epochs:
                report = _Reporter(stage, recipe.epochs, steps, epochs, progress)
                epochs += (_epoch(module, objective, optimizer, train, test, spec, recipe, report),)
                state.write(module, optimizer, epochs)
                report.finished(epochs)
    except _LossIsNoNumber as error:
        raise TrainingFailed(
            f"the loss became {error} in epoch {len(epochs) + 1}; {state.usable()}, or lower the learning rate"
        ) from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped in epoch {len(epochs) + 1} of {recipe.epochs}; {state.usable()}") from None
    finally:
        module.eval()
    return epochs


def evaluate(module: nn.Module, test: LabelledPixels, spec: ImageSpec, *, bfloat16: bool = False) -> Accuracy:
    """The shares of test images that the model, and each of its heads if it has two, answers right.

    The module is put in eval mode.
    """
    module.eval()
    pixels, labels = torch.from_numpy(test.pixels), torch.from_numpy(test.labels)
    right = torch.zeros(3, dtype=torch.int64)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        for start in range(0, test.count, _EVALUATION_BATCH):
            images = normalised(pixels[start : start + _EVALUATION_BATCH], spec)
            outputs = torch.stack([logits.float() for logits in _outputs(module, images)])
            found = outputs.argmax(dim=2) == labels[start : start + _EVALUATION_BATCH]
            right[: len(found)] += found.sum(dim=1)
    shares = [int(n) / test.count for n in right]
    return Accuracy(*shares) if _has_two_heads(module) else Accuracy(shares[0])


def _outputs(module: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """The model's logits; with two heads also (class head's, distillation head's)."""
    if not _has_two_heads(module):
        return (module(images),)
    by_class, by_teacher = module.both_heads(images)  # type: ignore[operator]
    return (by_class + by_teacher) / 2, by_class, by_teacher


def _has_two_heads(module: nn.Module) -> bool:
    return bool(getattr(module, "distilled", False))


def _epoch(
    module: nn.Module,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    train: LabelledPixels,
    test: LabelledPixels,
    spec: ImageSpec,
    recipe: Recipe,
    report: _Reporter,
) -> Epoch:
    """One pass over the training images, then the test."""
    number, steps = report.number, report.steps
    begin, total, rate = time.perf_counter(), 0.0, 0.0
    pixels, labels = torch.from_numpy(train.pixels), torch.from_numpy(train.labels)
    module.train()
    # Stochastic depth draws from torch's own generator: it is seeded here and given back as it was.
    with torch.random.fork_rng(devices=[]):
        generator = torch.default_generator.manual_seed(recipe.seed * 1_000_003 + number)
        order = torch.randperm(train.count, generator=generator)
        for step in range(steps):
            rate = recipe.learning_rate_at((number - 1) * steps + step, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            chosen = order[step * recipe.batch : (step + 1) * recipe.batch]
            images = augmented(pixels[chosen], spec, recipe, generator)
            loss = _step(module, objective, optimizer, images, labels[chosen], recipe)
            total += loss * len(chosen)
            if step % _STEPS_BETWEEN_REPORTS == 0:
                report.step(step, loss)
    seconds = time.perf_counter() - begin
    accuracy = evaluate(module, test, spec, bfloat16=recipe.bfloat16)
    return Epoch(number, total / train.count, accuracy, rate, seconds)


def _step(
    module: nn.Module,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
) -> float:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.bfloat16):
        loss = objective(module, images, labels)
    value = loss.item()
    if not loss.isfinite():
        raise _LossIsNoNumber(value)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(module.parameters(), recipe.clip_norm)
    optimizer.step()
    return value


def _adamw(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Weight decay on matrices and kernels only, not on biases, norms, tokens or positions."""
    trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    decayed = [p for name, p in trained if p.dim() > 1 and name not in ("prefix", "position")]
    spared = [p for name, p in trained if p.dim() <= 1 or name in ("prefix", "position")]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


class _LossIsNoNumber(Exception):
    """The loss is infinite or NaN."""


class _Reporter:
    """Tells the caller how far the run is, and how long the rest will take by the time so far."""

    def __init__(self, stage: str, of: int, steps: int, done: tuple[Epoch, ...], progress: ProgressCallback) -> None:
        self.stage, self.of, self.steps, self.done, self.progress = stage, of, steps, done, progress
        self.number = len(done) + 1
        self.begin = time.perf_counter()

    def step(self, step: int, loss: float) -> None:
        detail = f"epoch {self.number} of {self.of}, loss {loss:.3f}"
        if self.done:
            detail += f", test accuracy {self.done[-1].accuracy.top1:.2%}"
        if step:
            steps_left = (self.of - len(self.done)) * self.steps - step
            detail += _left((time.perf_counter() - self.begin) / step * steps_left)
        self.progress(Progress(self.stage, detail, len(self.done) * self.steps + step, self.of * self.steps))

    def finished(self, epochs: tuple[Epoch, ...]) -> None:
        last = epochs[-1]
        detail = (
            f"epoch {last.number} of {self.of} done, loss {last.loss:.3f}, test accuracy {last.accuracy.top1:.2%}, "
            f"{last.seconds:.0f} s"
        )
        if last.number < self.of:
            detail += _left((time.perf_counter() - self.begin) * (self.of - last.number))
        self.progress(Progress(self.stage, detail, last.number * self.steps, self.of * self.steps))


def _left(seconds: float) -> str:
    return f", {seconds / 60:.0f} min left" if seconds >= 90 else f", {seconds:.0f} s left"
