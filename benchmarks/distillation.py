"""DeiT's ablation (arXiv 2012.12877, section 5) at a size that two processor cores can run: Fashion-MNIST.

A small ViT learns without a teacher, by soft and by hard distillation, through its class head and through a
distillation token, from a convolutional and from a transformer teacher; each arm for as many epochs on the same
images, several seeds. The teachers learn the same training images. Every finished run is kept in --work, so that a
stopped benchmark goes on where it was; the students of --part 0/2 and of 1/2 can learn beside one another.

    python benchmarks/distillation.py teachers --work FOLDER
    python benchmarks/distillation.py students --work FOLDER [--part 0/2]
    python benchmarks/distillation.py summary --work FOLDER --out benchmarks/results/distillation.json
"""

import argparse
import gzip
import itertools
import json
import statistics
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vitlet.data.datasets import load_dataset
from vitlet.distill.job import Settings, distill
from vitlet.distill.recipe import Augmentation, Objective, Recipe, Student, Teacher, Training
from vitlet.measure.environment import environment
from vitlet.records import to_json
from vitlet.whole_file import put_whole

DATA = "torchvision:FashionMNIST"
IMAGES = 6_000  # of the 60,000 training images; all 10,000 test images are used
SEEDS = (0, 1, 2)

TRAINING = Training(
    epochs=10,
    batch=128,
    optimizer="muon",
    learning_rate=0.016,
    warmup_epochs=1,
    drop_path=0.0,
    clip_norm=1.0,
    ema=0.998,
)
VARIED = Augmentation("shifted", shift=1, random_augment="", colour_jitter=0, repeats=1, mixup=0, cutmix=0, erase=0.1)
SMALL = Student(patch=4, width=64, depth=4, heads=2, initialisation="xavier")
#: As many parameters as the convolutional teacher (0.68 against 0.63 million): the teachers are alike in size, not in
#: accuracy.
LARGE = Student(patch=4, width=96, depth=6, heads=3, initialisation="xavier")
TEACHER_TRAINING = replace(TRAINING, epochs=20, learning_rate=0.012)

#: Where they lie in --work.
TEACHERS = {"convolutional": "conv.training/teacher.safetensors", "transformer": "transformer.safetensors"}

ARMS = {
    "no distillation": ("", Objective("none")),
    "soft, class head": ("convolutional", Objective("soft", "class", 0.1, 3.0)),
    "hard, class head": ("convolutional", Objective("hard", "class", 0.5)),
    "soft, token": ("convolutional", Objective("soft", "token", 0.1, 3.0)),
    "hard, token": ("convolutional", Objective("hard", "token", 0.5)),
    "hard, token, transformer teacher": ("transformer", Objective("hard", "token", 0.5)),
}


def subset(work):
    """A folder of Fashion-MNIST's files with the first ``IMAGES`` training images and all test images."""
    folder = work / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for split, stem, count in (("train", "train", IMAGES), ("test", "t10k", None)):
        data = load_dataset(DATA, split)
        parts = (("images-idx3", data.pixels[:count]), ("labels-idx1", data.labels[:count].astype(np.uint8)))
        for name, values in parts:
            head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
            put_whole(folder / f"{stem}-{name}-ubyte.gz", gzip.compress(head + values.tobytes(), 1, mtime=0))


def run(work, name, recipe, **settings):
    """One training, or what is left of it; returns its record."""
    record = work / f"{name}.json"
    if record.exists():
        return json.loads(record.read_text())
    out = work / f"{name}.safetensors"
    out.unlink(missing_ok=True)
    options = Settings(resume=True, device="cpu", threads=1, data_root=work / "data", **settings)
    done = distill(DATA, out, recipe, options, progress=lambda at: at.milestone and print(name, at.detail, flush=True))
    found = {"student": to_json(done.student), "recipe": to_json(done.recipe)}
    if done.teacher is not None:
        found["teacher"] = to_json(done.teacher)
    record.write_text(json.dumps(found))
    return found


def teachers(work):
    """Trains both; the convolutional one is trained by a student of one epoch that is not used."""
    subset(work)
    once = replace(TRAINING, epochs=1)
    conv = Teacher("small-resnet", training=TEACHER_TRAINING, augmentation=VARIED)
    run(work, "conv", Recipe(SMALL, conv, Objective("hard"), once, VARIED))
    run(work, "transformer", Recipe(LARGE, objective=Objective("none"), training=TEACHER_TRAINING, augmentation=VARIED))


def students(work, part, parts):
    """Every arm with every seed, or each of them whose number leaves ``part`` when divided by ``parts``."""
    for number, (seed, arm) in enumerate(itertools.product(SEEDS, ARMS)):
        if number % parts != part:
            continue
        kind, objective = ARMS[arm]
        teacher = Teacher(str(work / TEACHERS[kind])) if kind else Teacher()
        recipe = Recipe(SMALL, teacher, objective, replace(TRAINING, seed=seed), VARIED)
        # Arms of a seed see the same images, so each teacher answers them once.
        decisions = work / "decisions" / f"{kind}-{seed}" if kind else None
        run(work, f"{slug(arm)}-{seed}", recipe, decisions=decisions)


def summary(work):
    """Mean and standard deviation over the seeds, of every head that can answer."""
    rows = []
    for arm, (teacher, objective) in ARMS.items():
        runs = [json.loads((work / f"{slug(arm)}-{seed}.json").read_text())["student"] for seed in SEEDS]
        heads = {}
        for head in ("top1", "class_head", "distillation_head"):
            shares = [one["accuracy"][head] for one in runs]
            if None not in shares:
                heads[head] = {"mean": statistics.mean(shares), "sd": statistics.stdev(shares), "runs": shares}
        seconds = [sum(epoch["seconds"] for epoch in one["epochs"]) for one in runs]
        row = {"arm": arm, "teacher": teacher, "objective": to_json(objective), "heads": heads, "seconds": seconds}
        row["parameters"] = runs[0]["parameters"]
        rows.append(row)
        shown = ", ".join(f"{head} {100 * h['mean']:.2f} ± {100 * h['sd']:.2f} %" for head, h in heads.items())
        print(f"{arm}: {shown}")
    conv, transformer = (json.loads((work / f"{name}.json").read_text()) for name in ("conv", "transformer"))
    return {
        "images": IMAGES,
        "seeds": SEEDS,
        "training": to_json(TRAINING),
        "teacher_training": to_json(TEACHER_TRAINING),
        "augmentation": to_json(VARIED),
        "student": to_json(SMALL),
        "teachers": {
            "convolutional": {key: conv["teacher"][key] for key in ("parameters", "accuracy")},
            "transformer": {key: transformer["student"][key] for key in ("parameters", "accuracy")},
        },
        "environment": to_json(environment(torch.get_num_threads())),
        "rows": rows,
    }


def slug(arm):
    return arm.replace(",", "").replace(" ", "-")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("teachers", "students", "summary"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--part", default="0/1")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    if chosen.step == "teachers":
        teachers(chosen.work)
    elif chosen.step == "students":
        students(chosen.work, *map(int, chosen.part.split("/")))
    else:
        found = json.dumps(summary(chosen.work), indent=1) + "\n"
        if chosen.out:
            put_whole(chosen.out, found.encode())


if __name__ == "__main__":
    main()
