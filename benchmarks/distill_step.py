"""One training step of DeiT-Ti at 224 pixels, vitlet's against the same written plainly with timm and PyTorch.

Random weights, synthetic images, a teacher whose answers are given (so that its own time is in neither): hard
distillation through the token, AdamW, bfloat16 autocast. Steps alternate in one process and are compared in
pairs; peak memory is that of fresh processes that do nothing else.

    python benchmarks/distill_step.py [--batch 32] [--pairs 15] [--out FILE]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import timm
import torch
from torch.nn import functional as F

from vitlet.data.labelled import LabelledPixels
from vitlet.distill.loader import Batch
from vitlet.distill.loop import Loop
from vitlet.distill.processes import Processes
from vitlet.distill.recipe import Augmentation, Objective, Training
from vitlet.distill.state import StateFile
from vitlet.distill.task import Running, Task
from vitlet.measure.environment import environment
from vitlet.models.deit import deit_architecture, deit_image_spec
from vitlet.models.vit import build_vit
from vitlet.records import to_json

CLASSES = 1000


def plain(images, labels, answers, bfloat16):
    """What a careful engineer writes with timm and PyTorch."""
    model = timm.create_model("deit_tiny_distilled_patch16_224", drop_path_rate=0.1).train()
    model.set_distilled_training(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.05, fused=True)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            by_class, by_teacher = model(images)
            decisions = answers.argmax(dim=1)
            loss = F.cross_entropy(by_class, labels, label_smoothing=0.1) + F.cross_entropy(by_teacher, decisions)
            loss = loss / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def vitlets(images, labels, answers, bfloat16):
    """The step of ``vitlet distill`` itself."""
    data = LabelledPixels(np.zeros((2, 224, 224, 3), np.uint8), np.zeros(2, np.int64), tuple(map(str, range(CLASSES))))
    training = Training(batch=len(images), bfloat16=bfloat16)
    unmixed = Augmentation(mixup=0, cutmix=0)  # so is the plain one
    task = Task(data, data, deit_image_spec(224), training, unmixed, Objective("hard"), teacher=lambda _: answers)
    module = build_vit(deit_architecture("deit_tiny_distilled_patch16_224"), drop_path=0.1)
    loop = Loop(module, task, StateFile(Path(tempfile.gettempdir()), {}), Running(Processes(0, 1, torch.device("cpu"))))
    batch, done = Batch(images, labels, torch.arange(len(images))), iter(range(10**9))
    module.train()
    return lambda: loop.step(loop.called, batch, next(done)).item()


SIDES = {"plain": plain, "vitlet": vitlets}


def inputs(batch):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, 224, 224, generator=generator)
    labels = torch.randint(0, CLASSES, (batch,), generator=generator)
    return images, labels, torch.randn(batch, CLASSES, generator=generator)


def timed(step):
    begin = time.perf_counter()
    step()
    return (time.perf_counter() - begin) * 1000


def peak_memory_bytes(side, batch, bfloat16):
    """Of a fresh process that runs five steps of one side."""
    command = [sys.executable, __file__, "--side", side, "--batch", str(batch), *(["--float32"] * (not bfloat16))]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    given = inputs(chosen.batch)
    if chosen.side:
        step = SIDES[chosen.side](*given, not chosen.float32)
        for _ in range(5):
            step()
        # Not getrusage's figure, which starts from what the process held that started this one.
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        print(int(line.split()[1]) * 1024)
        return
    rows = []
    for bfloat16 in (True, False):
        steps = {name: make(*given, bfloat16) for name, make in SIDES.items()}
        for step in steps.values():
            for _ in range(2):
                step()
        samples = {name: [] for name in steps}
        for turn in range(chosen.pairs):
            for name in sorted(steps, reverse=bool(turn % 2)):  # who goes first changes
                samples[name].append(timed(steps[name]))
        ratios = sorted(ours / theirs for ours, theirs in zip(samples["vitlet"], samples["plain"], strict=True))
        del steps
        memory = {name: peak_memory_bytes(name, chosen.batch, bfloat16) for name in SIDES}
        row = {
            "arithmetic": "bfloat16" if bfloat16 else "float32",
            "samples_ms": samples,
            "ratio": statistics.median(ratios),
            "ratio_quartiles": [ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]],
            "peak_memory_bytes": memory,
        }
        rows.append(row)
        print(
            f"{row['arithmetic']}: vitlet {statistics.median(samples['vitlet']):.0f} ms, plain "
            f"{statistics.median(samples['plain']):.0f} ms, ratio {row['ratio']:.3f} "
            f"({row['ratio_quartiles'][0]:.3f} to {row['ratio_quartiles'][1]:.3f}); peak memory "
            f"{memory['vitlet'] / 1e6:.0f} and {memory['plain'] / 1e6:.0f} MB",
            flush=True,
        )
    if chosen.out:
        record = {"batch": chosen.batch, "environment": to_json(environment(torch.get_num_threads())), "rows": rows}
        chosen.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
