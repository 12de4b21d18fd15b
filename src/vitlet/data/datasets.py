"""Labelled images by name, for training and for evaluation.

A name is one of ``DATASETS``, or ``hf:OWNER/NAME`` (see ``hf``), or the path of a folder with a sub-folder for each
class (see ``folder``).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from vitlet.data.cifar import load_cifar10, load_cifar100
from vitlet.data.fashion_mnist import FASHION_MNIST_LABELS, load_fashion_mnist
from vitlet.data.find import path_at
from vitlet.data.folder import load_folder
from vitlet.data.hf import PREFIX, load_hf
from vitlet.data.imagenet import load_imagenet
from vitlet.data.labelled import LabelledImages
from vitlet.data.pets_and_flowers import load_flowers, load_pets
from vitlet.data.splits import Split, check_split
from vitlet.errors import InvalidValue

__all__ = ["DATASETS", "FASHION_MNIST_LABELS", "is_dataset_name", "load_dataset"]

DATASETS: Mapping[str, Callable[[Split, Path | None], LabelledImages]] = MappingProxyType(
    {
        "torchvision:FashionMNIST": load_fashion_mnist,
        "torchvision:CIFAR10": load_cifar10,
        "torchvision:CIFAR100": load_cifar100,
        "torchvision:OxfordIIITPet": load_pets,
        "torchvision:Flowers102": load_flowers,
        "torchvision:ImageNet": load_imagenet,
    }
)

_TORCHVISION = "torchvision:"


def is_dataset_name(text: str) -> bool:
    """Whether ``text`` is meant as the name of a data set rather than as a path; there need be none of that name."""
    return text.startswith((_TORCHVISION, PREFIX))


def load_dataset(name: str, split: Split, root: Path | None = None) -> LabelledImages:
    """Load a data set by its name, or a folder by its path.

    ``root`` is a folder that holds a named data set's files, or gets them when they are downloaded; without it, the
    system's copy is taken if there is one, else the user's cache. It says nothing where ``name`` is a path.

    Raises:
        InvalidValue: no data set or split of that name; a folder or data set whose classes are not usable.
        NoImages: a folder holds no classes.
        Unsupported: a package that reads this data set is not installed.
        HubUnreachable: the files are not here and cannot be downloaded.
        UnreadableImage: a file is damaged.
    """
    check_split(split)
    if name in DATASETS:
        return DATASETS[name](split, root)
    if name.startswith(PREFIX):
        return load_hf(name, split, root)
    if not is_dataset_name(name) and path_at(name) is not None:
        return load_folder(Path(name), split)
    raise InvalidValue(
        f"no data set is called {name!r}, and there is no such folder{_close(name)}; there are: {', '.join(DATASETS)}, "
        "hf:OWNER/NAME of the Hugging Face Hub, and folders with a sub-folder for each class"
    )


def _close(name: str) -> str:
    """A question that names what was probably meant, if anything."""
    by_key = {key: known for known in DATASETS for key in (known.lower(), known.removeprefix(_TORCHVISION).lower())}
    found = difflib.get_close_matches(name.lower(), by_key, n=1, cutoff=0.7)
    return f" (did you mean {by_key[found[0]]}?)" if found else ""
