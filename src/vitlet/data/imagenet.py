"""ImageNet-1k (Russakovsky et al., arXiv 1409.0575), as it is unpacked for training: a folder for each WordNet id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitlet.data.download import cache_folder
from vitlet.data.folder import class_folders, list_files
from vitlet.data.labelled import LabelledFiles
from vitlet.data.splits import Split
from vitlet.errors import HubUnreachable, InvalidValue

_FOLDERS = {"train": "train", "test": "val"}


def load_imagenet(split: Split, root: Path | None) -> LabelledFiles:
    """The images of ``root``/train/nXXXXXXXX and ``root``/val/nXXXXXXXX, which serves as "test". ``class_names`` are
    timm's descriptions, in the order of ImageNet-1k.

    Raises:
        HubUnreachable: they are not there; ImageNet cannot be downloaded.
        InvalidValue: these are not the 1000 classes of ImageNet-1k.
        UnreadableImage: a folder cannot be listed.
    """
    from timm.data.imagenet_info import ImageNetInfo  # heavy, and rarely wanted

    place = cache_folder() / "imagenet" if root is None else root
    folder = place / _FOLDERS[split]
    if not folder.is_dir():
        raise HubUnreachable(
            f"ImageNet cannot be downloaded without an account, and there is no folder {folder}; get the archives from "
            f"image-net.org, unpack them to train/nXXXXXXXX and val/nXXXXXXXX, and link the folder of both as {place}"
        )
    info: Any = ImageNetInfo("imagenet-1k")
    ids: list[str] = info.label_names()
    names: list[str] = info.label_descriptions()
    _check(folder, ids)
    files = list_files(folder, ids, ids)
    return LabelledFiles(files.paths, files.labels, tuple(names), files.root)


def _check(folder: Path, ids: list[str]) -> None:
    found = set(class_folders(folder))
    foreign = sorted(found.difference(ids))
    if foreign:
        raise InvalidValue(
            f"{folder} holds {foreign[0]!r}, which is no class of ImageNet-1k; name the folder itself as the data set "
            "to take its folders as the classes"
        )
    if len(found) < len(ids):
        raise InvalidValue(
            f"{folder} holds images of {len(found)} of the {len(ids)} classes of ImageNet-1k; unpack all of them, each "
            "into a folder nXXXXXXXX (the archive of the validation images does not sort them)"
        )
