"""A tiny training run in a process of its own: ``killable_run.py FOLDER``. Not a test itself.

It prints the progress, so that a test knows when to kill it, and ends with its state in FOLDER.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from vitlet.data.datasets import LabelledPixels
from vitlet.distill.objective import learn_labels
from vitlet.distill.recipe import Recipe
from vitlet.distill.state import StateFile
from vitlet.distill.trainer import fit
from vitlet.models.vit import build_vit
from vitlet.records import ImageSpec, VitArchitecture


def dark_or_bright(count: int, seed: int) -> LabelledPixels:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    pixels = random.integers(0, 128, (count, 8, 8), dtype=np.uint8) + (labels * 64).astype(np.uint8)[:, None, None]
    return LabelledPixels(pixels, labels, ("dark", "bright"))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    recipe = Recipe(epochs=6, batch=16, shift=1, drop_path=0.2, bfloat16=False, seed=4)
    architecture = VitArchitecture(8, 8, 2, width=16, depth=2, heads=2, mlp_width=32, classes=2)
    fit(
        build_vit(architecture, seed=1, drop_path=recipe.drop_path),
        learn_labels(0.1),
        dark_or_bright(800, 1),
        dark_or_bright(100, 2),
        ImageSpec(8, 8, (8, 8), "bilinear", (0.4,) * 3, (0.2,) * 3),
        recipe,
        StateFile(folder, {"run": "dark or bright"}),
        progress=lambda at: print(at.detail, flush=True),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
