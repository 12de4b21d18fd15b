"""FashionMNIST (Xiao et al., arXiv 1708.07747; MIT licence): 28 x 28 gray images of clothes in ten classes.

It is read from the Debian package ``dataset-fashion-mnist`` where that is installed, and else downloaded by
torchvision, which checks its hashes.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from vitlet.data.download import cache_folder, downloading
from vitlet.data.labelled import LabelledPixels
from vitlet.data.splits import Split
from vitlet.errors import UnreadableImage

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

_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_IDX_UNSIGNED_BYTE = 0x08


def load_fashion_mnist(split: Split, root: Path | None) -> LabelledPixels:
    """60 000 images for training, 10 000 for testing; ``root`` as ``load_dataset`` says.

    Raises:
        HubUnreachable: the files are not here and cannot be downloaded.
        UnreadableImage: a file is damaged.
    """
    folder = root if root is not None else _DEBIAN
    stem = "train" if split == "train" else "t10k"
    images, labels = folder / f"{stem}-images-idx3-ubyte.gz", folder / f"{stem}-labels-idx1-ubyte.gz"
    if images.is_file() and labels.is_file():
        return LabelledPixels(read_idx(images), read_idx(labels).astype(np.int64), FASHION_MNIST_LABELS)
    return _by_torchvision(split, root if root is not None else cache_folder())


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


def _by_torchvision(split: Split, root: Path) -> LabelledPixels:
    from torchvision.datasets import FashionMNIST

    with downloading("FashionMNIST", root, ", or install the Debian package dataset-fashion-mnist"):
        found = FashionMNIST(root, train=split == "train", download=True)
    return LabelledPixels(found.data.numpy(), found.targets.numpy().astype(np.int64), FASHION_MNIST_LABELS)
