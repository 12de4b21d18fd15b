"""Do reading processes keep the device busy? DeiT-Ti learns from JPEG files, with DeiT's augmentation.

The files are 500 x 375 pixels, a usual size of ImageNet's, cut from scikit-image's photos. One thread computes, and 0,
1, ... processes read beside it; the second epoch counts, since the processes start in the first. It needs a processor
for each of them. How many images a process makes ready in a second is measured, too: a device that trains faster needs
as many more of them.

    python benchmarks/distill_reading.py --out benchmarks/results/distill-reading.json
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from vitlet.data.folder import load_folder
from vitlet.distill.job import Settings, distill
from vitlet.distill.loader import training_stream
from vitlet.distill.order import Order
from vitlet.distill.recipe_file import load_recipe
from vitlet.measure.environment import environment
from vitlet.records import ImageSpec, to_json
from vitlet.whole_file import put_whole

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
SIZE = (500, 375)


def make_files(folder, count):
    """``count`` different JPEG files, a class for each photo; returns their mean size in bytes."""
    random = np.random.default_rng(0)
    photos = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in PHOTOS]
    sizes = []
    for part, number in (("train", count), ("test", 2 * len(PHOTOS))):
        for at in range(number):
            photo = photos[at % len(photos)]
            width = random.uniform(0.5, 1) * min(photo.width, photo.height * SIZE[0] / SIZE[1])
            height = width * SIZE[1] / SIZE[0]
            left, top = random.uniform(0, photo.width - width), random.uniform(0, photo.height - height)
            cut = photo.resize(SIZE, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
            file = folder / part / PHOTOS[at % len(photos)] / f"{at}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            cut.save(file, quality=95)
            sizes.append(file.stat().st_size)
    return float(np.mean(sizes))


def reading_speed(folder, augmentation):
    """Images a second that one process reads and varies."""
    images = load_folder(folder, "train")
    stream = training_stream(images, ImageSpec(224, 224, 256), augmentation, Order(images.count, 32))
    begin = time.perf_counter()
    count = sum(len(batch.labels) for batch in stream.epoch(0))
    return count / (time.perf_counter() - begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--workers", default="0,1")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    recipe = load_recipe("deit", ["objective.kind=none", "training.epochs=2", "training.warmup_epochs=1"])
    recipe = replace(recipe, training=replace(recipe.training, batch=32))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = make_files(folder / "images", chosen.images)
        torch.set_num_threads(1)
        speed = reading_speed(folder / "images", recipe.augmentation)
        print(f"one process reads and varies {speed:.0f} images a second ({size / 1e3:.0f} kB each)", flush=True)
        for workers in map(int, chosen.workers.split(",")):
            out = folder / f"{workers}.safetensors"
            done = distill(str(folder / "images"), out, recipe, Settings(device="cpu", threads=1, workers=workers))
            last = done.student.epochs[-1]
            rows.append({"workers": workers, "seconds": last.seconds, "waited_s": last.waited_s})
            print(
                f"{workers} workers: {chosen.images / last.seconds:.1f} images a second, "
                f"{100 * last.waited_s / last.seconds:.1f} % of the time spent waiting for images",
                flush=True,
            )
    if chosen.out:
        whole = {"images": chosen.images, "file_bytes": size, "read_per_s": speed, "rows": rows}
        whole["environment"] = to_json(environment(1))
        put_whole(chosen.out, (json.dumps(whole, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
