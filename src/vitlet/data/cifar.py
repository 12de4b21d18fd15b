"""CIFAR-10 and CIFAR-100 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009): 32 x 32 colour
images.

torchvision downloads them and checks their hashes. Their files are pickles, which it would run; they are read by
``array_pickle`` instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vitlet.data.array_pickle import read_pickle
from vitlet.data.download import cache_folder, downloading
from vitlet.data.labelled import LabelledPixels
from vitlet.data.splits import Split
from vitlet.errors import InvalidValue, UnreadableImage

_EDGE = 32


def load_cifar10(split: Split, root: Path | None) -> LabelledPixels:
    """50 000 images for training, 10 000 for testing, in 10 classes; ``root`` as ``load_dataset`` says.

    Raises:
        HubUnreachable: the files are not here and cannot be downloaded.
        UnreadableImage: a file is damaged or holds code.
    """
    from torchvision.datasets import CIFAR10

    return _load(CIFAR10, split, root, labels_key="labels")


def load_cifar100(split: Split, root: Path | None) -> LabelledPixels:
    """50 000 images for training, 10 000 for testing, in 100 classes (the fine ones); else as ``load_cifar10``."""
    from torchvision.datasets import CIFAR100

    return _load(CIFAR100, split, root, labels_key="fine_labels")


def _load(kind: Any, split: Split, root: Path | None, *, labels_key: str) -> LabelledPixels:
    """``kind``: torchvision's class, of which only the addresses, names and hashes of the files are used."""
    folder = _files(kind, cache_folder() if root is None else root)
    meta = folder / kind.meta["filename"]
    class_names = _entry(read_pickle(meta), kind.meta["key"], meta)
    if not isinstance(class_names, list) or not all(isinstance(name, str) for name in class_names):
        raise UnreadableImage(f"{meta}: holds no names of classes; remove {folder} and load it again")
    batches = [
        _batch(folder / name, labels_key) for name, _ in (kind.train_list if split == "train" else kind.test_list)
    ]
    pixels, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    try:
        return LabelledPixels(pixels, labels, tuple(class_names))
    except InvalidValue as error:
        raise UnreadableImage(f"{folder}: {error}; remove it and load it again") from error


def _files(kind: Any, root: Path) -> Path:
    """The folder of the unpacked archive, downloaded if a file is missing or is not the one that was published."""
    from torchvision.datasets.utils import check_integrity, download_and_extract_archive

    folder = root / kind.base_folder
    files = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
    if not all(check_integrity(folder / name, md5) for name, md5 in files):
        with downloading(kind.__name__, root):
            download_and_extract_archive(kind.url, str(root), filename=kind.filename, md5=kind.tgz_md5)
    return folder


def _batch(path: Path, labels_key: str) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, 32, 32, 3] and int64 [n]; a row of the file holds the red plane, then green, then blue."""
    content = read_pickle(path)
    rows, labels = _entry(content, "data", path), _entry(content, labels_key, path)
    if not isinstance(rows, np.ndarray) or rows.shape[1:] != (3 * _EDGE * _EDGE,):
        raise UnreadableImage(f"{path}: holds no images of {_EDGE} x {_EDGE} pixels; get the data set again")
    if not isinstance(labels, list) or len(labels) != len(rows) or not all(type(label) is int for label in labels):
        raise UnreadableImage(f"{path}: does not hold one label for each image; get the data set again")
    pixels = np.ascontiguousarray(rows.reshape(-1, 3, _EDGE, _EDGE).transpose(0, 2, 3, 1))
    return pixels, np.array(labels, np.int64)


def _entry(content: Any, key: str, path: Path) -> Any:
    if not isinstance(content, dict) or key not in content:
        raise UnreadableImage(f"{path}: has no entry {key!r}; get the data set again")
    return content[key]
