"""Two small sets of photographs that torchvision downloads: Oxford-IIIT Pet (Parkhi et al., "Cats and Dogs", 2012) and
Oxford 102 Flower (Nilsback and Zisserman, 2008). Their images stay in their files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitlet.data.download import cache_folder, downloading
from vitlet.data.labelled import LabelledFiles
from vitlet.data.splits import Split
from vitlet.errors import UnreadableImage


def load_pets(split: Split, root: Path | None) -> LabelledFiles:
    """3680 images for training (torchvision's "trainval"), 3669 for testing, in 37 classes; ``root`` as
    ``load_dataset`` says.

    Raises:
        HubUnreachable: the files are not here and cannot be downloaded.
        UnreadableImage: they are not whole.
    """
    from torchvision.datasets import OxfordIIITPet

    place = cache_folder() if root is None else root
    folder = place / "oxford-iiit-pet"
    try:
        with downloading("OxfordIIITPet", place, f", or remove {folder} if it is not whole"):
            found = OxfordIIITPet(place, split="trainval" if split == "train" else "test", download=True)
    except (ValueError, IndexError) as error:
        raise UnreadableImage(f"{folder}: its annotations are damaged; remove it and load it again") from error
    return _files(folder, found._images, found._labels, found.classes)


def load_flowers(split: Split, root: Path | None) -> LabelledFiles:
    """2040 images for training (torchvision's "train" and "val"), 6149 for testing, in 102 classes; ``root`` as
    ``load_dataset`` says.

    Raises:
        HubUnreachable: the files are not here and cannot be downloaded.
        UnreadableImage: they are not whole.
    """
    from torchvision.datasets import Flowers102

    place = cache_folder() if root is None else root
    folder = place / "flowers-102"
    with downloading("Flowers102", place, f", or remove {folder} if it is not whole"):
        parts = [Flowers102(place, split=name, download=True) for name in _FLOWER_SPLITS[split]]
    paths = [path for found in parts for path in found._image_files]
    labels = [label for found in parts for label in found._labels]
    return _files(folder, paths, labels, Flowers102.classes)


_FLOWER_SPLITS = {"train": ("train", "val"), "test": ("test",)}


def _files(folder: Path, paths: Sequence[Path], labels: Sequence[int], class_names: Sequence[str]) -> LabelledFiles:
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UnreadableImage(
            f"{folder} lacks {len(missing)} of {len(paths)} images ({missing[0].name}); remove it and load it again"
        )
    names = tuple(path.relative_to(folder).as_posix() for path in paths)
    return LabelledFiles(names, np.array(labels, np.int64), tuple(class_names), folder)
