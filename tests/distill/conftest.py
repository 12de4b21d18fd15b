"""A data set and a ViT so small that an epoch takes a fraction of a second."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from vitlet.data.fashion_mnist import FASHION_MNIST_LABELS
from vitlet.data.labelled import LabelledPixels
from vitlet.distill.processes import Processes
from vitlet.distill.recipe import Augmentation, Objective, Training
from vitlet.distill.task import Running, Task
from vitlet.records import ImageSpec, VitArchitecture

#: Three epochs in float32, with stochastic depth. (The learning rate is for 512 images and a batch is 16.)
TRAINING = Training(epochs=3, batch=16, learning_rate=0.05, warmup_epochs=1, drop_path=0.2, bfloat16=False, seed=4)
#: Images moved by a pixel, and nothing else.
STILL = Augmentation("shifted", shift=1, random_augment="", colour_jitter=0, repeats=1, mixup=0, cutmix=0, erase=0)


def bars(count: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with one bright horizontal (class 0) or vertical (class 1) bar: easy to tell apart."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 60, (count, size, size), dtype=np.uint8)
    labels = random.integers(0, 2, count)
    for image, label, place in zip(pixels, labels, random.integers(1, size - 1, count), strict=True):
        if label:
            image[:, place] = 255
        else:
            image[place] = 255
    return pixels, labels.astype(np.int64)


@pytest.fixture(scope="session")
def train() -> LabelledPixels:
    return LabelledPixels(*bars(160, 8, 1), ("across", "down"))


@pytest.fixture(scope="session")
def test() -> LabelledPixels:
    return LabelledPixels(*bars(100, 8, 2), ("across", "down"))


@pytest.fixture
def spec() -> ImageSpec:
    return ImageSpec(8, 8, (8, 8), "bilinear", (0.2,) * 3, (0.3,) * 3)


@pytest.fixture
def tiny() -> VitArchitecture:
    return VitArchitecture(8, 8, 2, width=16, depth=2, heads=2, mlp_width=32, classes=2)


@pytest.fixture
def task(train, test, spec) -> Task:
    """Three short epochs on the bars, from the labels alone."""
    return Task(train, test, spec, TRAINING, STILL, Objective("none"))


@pytest.fixture
def alone() -> Running:
    """One process on the CPU that reads images itself."""
    return Running(Processes(0, 1, torch.device("cpu")))


@pytest.fixture(scope="session")
def fashion_root(tmp_path_factory) -> Path:
    """A stand-in for the folder of Fashion-MNIST's four files, of 48 training and 30 test images."""

    def write(name: str, values: np.ndarray) -> None:
        head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
        (folder / name).write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes()))

    folder = tmp_path_factory.mktemp("fashion")
    assert len(FASHION_MNIST_LABELS) == 10
    for stem, count in (("train", 48), ("t10k", 30)):
        pixels, labels = bars(count, 28, count)
        write(f"{stem}-images-idx3-ubyte.gz", pixels)
        write(f"{stem}-labels-idx1-ubyte.gz", labels)
    return folder
