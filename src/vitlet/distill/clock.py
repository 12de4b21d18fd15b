"""How far a run is and how long it will still take, told to whoever watches."""

from __future__ import annotations

import time

from vitlet.distill.state import Epoch
from vitlet.records import Progress, ProgressCallback


class Clock:
    """Wall seconds since it was made."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()

    def seconds(self) -> float:
        """So many have passed."""
        return time.perf_counter() - self._begin


class Reporter:
    """Tells the caller how far the run is, and how long the rest will take by the time so far; one an epoch."""

    def __init__(self, stage: str, of: int, steps: int, done: tuple[Epoch, ...], progress: ProgressCallback) -> None:
        self.stage, self.of, self.steps, self.done, self.progress = stage, of, steps, done, progress
        self.number = len(done) + 1
        self.clock = Clock()

    def step(self, step: int, loss: float) -> None:
        """After a step of the epoch."""
        detail = f"epoch {self.number} of {self.of}, loss {loss:.3f}"
        if self.done:
            detail += f", test accuracy {self.done[-1].accuracy.top1:.2%}"
        if step:
            steps_left = (self.of - len(self.done)) * self.steps - step
            detail += _left(self.clock.seconds() / step * steps_left)
        self.progress(Progress(self.stage, detail, len(self.done) * self.steps + step, self.of * self.steps))

    def finished(self, epochs: tuple[Epoch, ...]) -> None:
        """After the epoch, its test included."""
        last = epochs[-1]
        detail = (
            f"epoch {last.number} of {self.of} done, loss {last.loss:.3f}, test accuracy {last.accuracy.top1:.2%}, "
            f"{last.seconds:.0f} s"
        )
        if last.waited_s > max(1.0, 0.05 * last.seconds):
            detail += f" ({last.waited_s:.0f} s of it waiting for images: more --workers may help)"
        if last.unreadable:
            detail += f", {last.unreadable} images cannot be read"
        if last.number < self.of:
            detail += _left(self.clock.seconds() * (self.of - last.number))
        self.progress(Progress(self.stage, detail, last.number * self.steps, self.of * self.steps, milestone=True))


def _left(seconds: float) -> str:
    if seconds >= 5400:
        return f", {seconds / 3600:.1f} h left"
    return f", {seconds / 60:.0f} min left" if seconds >= 90 else f", {seconds:.0f} s left"
