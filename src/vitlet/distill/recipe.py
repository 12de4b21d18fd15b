"""How long, how fast and on what variations of the images to train."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vitlet.errors import InvalidValue


@dataclass(frozen=True)
class Recipe:
    """The settings of one training run with AdamW (1711.05101).

    The learning rate rises linearly over ``warmup_epochs``, then falls by a cosine to
    ``final_learning_rate`` at the last step (1608.03983, without restarts). ``weight_decay`` spares
    biases, norms, tokens and positions. ``drop_path`` is the last block's stochastic depth, for
    ViT students. ``flip`` is the share of images mirrored left to right, ``shift`` the most pixels
    that an image moves each way (a random crop after padding with black), ``erase`` the share with a
    rectangle of noise (1708.04896). Gradients are clipped to the norm ``clip_norm``. ``bfloat16``
    runs matrix products in bfloat16 under autocast; weights and optimizer stay float32.
    """

    epochs: int = 26
    batch: int = 128
    learning_rate: float = 1.5e-3
    warmup_epochs: float = 1.0
    final_learning_rate: float = 1e-5
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    drop_path: float = 0.05
    flip: float = 0.5
    shift: int = 1
    erase: float = 0.1
    clip_norm: float = 1.0
    bfloat16: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        limits: dict[str, tuple[float, float]] = {
            "epochs": (1, 100_000),
            "batch": (1, 65_536),
            "learning_rate": (1e-9, 10),
            "warmup_epochs": (0, self.epochs),
            "final_learning_rate": (0, self.learning_rate),
            "weight_decay": (0, 10),
            "label_smoothing": (0, 0.9),
            "drop_path": (0, 0.9),
            "flip": (0, 1),
            "shift": (0, 4096),
            "erase": (0, 1),
            "clip_norm": (1e-9, 1e9),
            "seed": (0, 2**31 - 1),
        }
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if not least <= value <= most:  # NaN fails this too
                raise InvalidValue(f"Recipe.{name} is {value}; it must be {least:g} to {most:g}")

    def learning_rate_at(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of optimizer step ``step``, counted from 0 over the whole run."""
        warmup = round(self.warmup_epochs * steps_per_epoch)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        last = max(1, self.epochs * steps_per_epoch - 1 - warmup)
        cosine = (1 + math.cos(math.pi * min(1.0, (step - warmup) / last))) / 2
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * cosine


#: Settings of the bundled model and of its teacher; see docs/bundled-model.md.
STUDENT = Recipe()
TEACHER = Recipe(epochs=15, learning_rate=3e-3, warmup_epochs=1.5, drop_path=0.0, shift=2)
