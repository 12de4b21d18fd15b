"""Named, labelled data sets as plain arrays, for training and for evaluation.

A name is ``torchvision:NAME``. FashionMNIST (Xiao et al., arXiv 1708.07747; MIT licence) is known so
far: it is read from the Debian package ``dataset-fashion-mnist`` where that is installed, and else
downloaded by torchvision, which checks its hashes. Nothing is ever unpickled.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np

from vitlet.errors import HubUnreachable, InvalidValue, UnreadableImage

Split: TypeAlias = Literal["train", "test"]

FASHION_MNIST_LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

_DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
_IDX_UNSIGNED_BYTE = 0x08


@dataclass(frozen=True)
class LabelledPixels:
    """Images of one size with their classes.

    ``pixels``: uint8 [count, height, width] (gray) or [count, height, width, 3] (RGB).
    ``labels``: int64 [count], indices into ``class_names``.
    """

    pixels: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] != 3):
            raise InvalidValue(
                f"pixels are {self.pixels.dtype} {list(shape)}; they must be uint8 [n, h, w] or [n, h, w, 3]"
            )
        if self.labels.dtype != np.int64 or self.labels.shape != shape[:1]:
            raise InvalidValue(
                f"labels are {self.labels.dtype} {list(self.labels.shape)}; they must be int64 [{shape[0]}]"
            )
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            raise InvalidValue(
                f"labels run from {self.labels.min()} to {self.labels.max()} for {len(self.class_names)} class names"
            )

    @property
    def count(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def first(self, count: int) -> LabelledPixels:
        """The first ``count`` images, or all if there are fewer."""
        return LabelledPixels(self.pixels[:count], self.labels[:count], self.class_names)


def load_dataset(name: str, split: Split, root: Path | None = None) -> LabelledPixels:
    """Load a named data set.

    ``root`` is a folder that holds the data set's files, or gets them when they are downloaded;
    without it, the system's copy is taken if there is one, else the user's cache.

    Raises:
        InvalidValue: no data set or split of that name.
        HubUnreachable: the files are not here and cannot be downloaded.
        UnreadableImage: a file is damaged.
    """
    if split not in ("train", "test"):
        raise InvalidValue(f"split is {split!r}; it must be 'train' or 'test'")
    if name not in DATASETS:
        raise InvalidValue(f"no data set is called {name!r}; there are: {', '.join(DATASETS)}")
    return DATASETS[name](split, root)


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes (the format of http://yann.lecun.com/exdb/mnist):
    two zero bytes, type, number of dimensions, each dimension as big-endian uint32, then the data.

    Returns:
        uint8 of the file's shape.

    Raises:
        UnreadableImage: it is cut short, damaged or of another type.
    """
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableImage(f"{path} cannot be read ({error}); install the data set again") from error
    dimensions = data[3] if len(data) > 3 and data[:3] == bytes([0, 0, _IDX_UNSIGNED_BYTE]) else 0
    start = 4 + 4 * dimensions
    shape = tuple(int(n) for n in np.frombuffer(data[4:start], dtype=">u4")) if len(data) >= start else ()
    if not dimensions or len(shape) != dimensions or len(data) - start != int(np.prod(shape, dtype=np.int64)):
        raise UnreadableImage(f"{path} is no whole IDX file of unsigned bytes; install the data set again")
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape).copy()  # writable, as torch wants it


def _fashion_mnist(split: Split, root: Path | None) -> LabelledPixels:
    folder = root if root is not None else _DEBIAN_FASHION_MNIST
    stem = "train" if split == "train" else "t10k"
    images, labels = folder / f"{stem}-images-idx3-ubyte.gz", folder / f"{stem}-labels-idx1-ubyte.gz"
    if images.is_file() and labels.is_file():
        return LabelledPixels(read_idx(images), read_idx(labels).astype(np.int64), FASHION_MNIST_LABELS)
    return _fashion_mnist_by_torchvision(split, root if root is not None else _cache_folder())


def _fashion_mnist_by_torchvision(split: Split, root: Path) -> LabelledPixels:
    from torchvision.datasets import FashionMNIST

    try:
        with redirect_stdout(StringIO()):  # torchvision prints; our standard output is for results
            found = FashionMNIST(root, train=split == "train", download=True)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise HubUnreachable(
            f"FashionMNIST is not in {root} and cannot be downloaded ({reason}); check the network, or install the "
            "Debian package dataset-fashion-mnist"
        ) from error
    return LabelledPixels(found.data.numpy(), found.targets.numpy().astype(np.int64), FASHION_MNIST_LABELS)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vitlet" / "datasets"


DATASETS: Mapping[str, Callable[[Split, Path | None], LabelledPixels]] = MappingProxyType(
    {"torchvision:FashionMNIST": _fashion_mnist}
)
