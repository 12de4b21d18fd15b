"""A tiny training in a process of its own: ``killable_run.py FOLDER``, also under torchrun. Not a test itself.

It prints the progress, so that a test knows when to kill it, and ends with its state in FOLDER. With mixing,
repeats, stored decisions and a moving average, since all of that must go on where it stopped.
"""

import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vitlet.data.labelled import LabelledPixels
from vitlet.distill.decisions import DecisionStore, digest
from vitlet.distill.processes import all_processes
from vitlet.distill.recipe import Augmentation, Objective, Training
from vitlet.distill.state import StateFile
from vitlet.distill.task import Running, Task
from vitlet.distill.trainer import fit
from vitlet.models.small_resnet import small_resnet
from vitlet.models.vit import build_vit
from vitlet.records import ImageSpec, VitArchitecture

TRAINING = Training(epochs=6, batch=32, learning_rate=0.02, warmup_epochs=1, ema=0.9, bfloat16=False, seed=4)
AUGMENTATION = Augmentation("shifted", shift=1, random_augment="", colour_jitter=0, repeats=2, cycle=4)
ARCHITECTURE = VitArchitecture(8, 8, 2, width=16, depth=2, heads=2, mlp_width=32, classes=2, distillation_token=True)


def dark_or_bright(count: int, seed: int) -> LabelledPixels:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    pixels = random.integers(0, 128, (count, 8, 8), dtype=np.uint8) + (labels * 64).astype(np.uint8)[:, None, None]
    return LabelledPixels(pixels, labels, ("dark", "bright"))


def bright(images: torch.Tensor) -> torch.Tensor:
    """The teacher: logits by the mean of the pixels."""
    mean = images.mean(dim=(1, 2, 3))
    return torch.stack([-mean, mean], dim=1)


def main(folder: Path, drop_path: float, how: str = "") -> None:
    """``how`` is "shard" for FSDP, "resnet" for a network with running statistics in the ViT's place."""
    torch.set_num_threads(1)
    train, spec = dark_or_bright(800, 1), ImageSpec(8, 8, (8, 8), "bilinear", (0.4,) * 3, (0.2,) * 3)
    task = Task(train, dark_or_bright(100, 2), spec, TRAINING, AUGMENTATION, Objective("soft"), bright)
    store = DecisionStore(folder / "decisions", {"of": "dark or bright"}, task.order.positions, 2)
    task = Task(train, task.test, spec, TRAINING, AUGMENTATION, task.objective, bright, store)
    with all_processes("cpu") as processes:
        shard = how == "shard"
        running = Running(processes, workers=1, shard=shard, progress=lambda at: print(at.detail, flush=True))
        module = build_vit(ARCHITECTURE, seed=1, drop_path=drop_path)
        if shard:
            task = replace(task, training=replace(TRAINING, ema=0.0))
        if how == "resnet":
            module = small_resnet(spec, train.class_names).module
            task = replace(task, objective=Objective("none"), teacher=None, store=None)
        fit(module, task, StateFile(folder, {"run": "dark or bright"}), running)
        if how == "resnet":
            # In one write, or the lines of both would run together: torchrun's processes do not buffer.
            sys.stdout.write(f"rank {processes.rank} ends with {digest(module)}\n")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command does, see vitlet.cli.main
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.2, *sys.argv[3:])
