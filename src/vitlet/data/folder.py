"""A folder of images, one sub-folder for each class, as images for training and for testing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitlet.data.find import folders_in, images_below
from vitlet.data.labelled import LabelledFiles
from vitlet.data.splits import HOLDOUT, Split, check_split, part
from vitlet.errors import InvalidValue, NoImages

#: What a folder of test images is called; the first that has classes is taken.
TEST_FOLDERS = ("test", "val", "validation", "valid")


def load_folder(path: Path, split: Split, *, holdout: float = HOLDOUT, seed: int = 0) -> LabelledFiles:
    """The images below ``path``; no file is opened.

    Where there is a sub-folder ``train`` and one of ``TEST_FOLDERS``, these are the two splits, and a class is a
    folder in them. Otherwise the folders in ``path`` (or in a ``train`` that holds them) are the classes, and
    a share ``holdout`` of each class is held out for "test", always the same images for a ``seed``. An image counts
    to the class in whose folder it lies, however deep; images in no class folder, files that are no images by their
    suffix, hidden files and folders without images are passed over. ``class_names`` are the folders' names, sorted,
    and the same in both splits.

    Raises:
        NoImages: there are no class folders.
        InvalidValue: one class only; a class to be tested that ``train`` lacks; a class of which none can be held out;
            training images in ``train`` beside images in a folder of another name.
        UnreadableImage: a folder cannot be listed.
    """
    check_split(split)
    root = path.expanduser()
    if not root.is_dir():
        raise InvalidValue(f"{path} is no folder; give one with a sub-folder of images for each class")
    train, test = _split_folders(root)
    class_names = class_folders(train)
    if not class_names:
        raise NoImages(f"{train} holds no sub-folder with images; make one for each class, such as {train}/cat")
    if len(class_names) == 1:
        raise InvalidValue(
            f"{train} holds one class only ({class_names[0]}); a classifier needs two or more, each in a sub-folder"
        )
    if test is None:
        files = list_files(train, class_names, class_names)
        return files.subset(part(files.labels, class_names, split, holdout=holdout, seed=seed))
    if split == "train":
        return list_files(train, class_names, class_names)
    tested = class_folders(test)
    foreign = [name for name in tested if name not in class_names]
    if foreign:
        raise InvalidValue(
            f"{test} holds the class {foreign[0]!r}, which {train} lacks; add images of it there or remove it here"
        )
    return list_files(test, tested, class_names)


def class_folders(root: Path) -> tuple[str, ...]:
    """The names, sorted, of the folders in ``root`` that hold an image somewhere below.

    Raises:
        UnreadableImage: a folder cannot be listed.
    """
    found = (name for name in folders_in(root) if next(images_below(root / name, root, set()), None) is not None)
    return tuple(found)


def list_files(root: Path, folders: Sequence[str], class_names: Sequence[str]) -> LabelledFiles:
    """The images below each of ``folders`` in ``root``, by name; ``class_names`` has the folders' names among its own.

    Raises:
        UnreadableImage: a folder cannot be listed.
    """
    index = {name: number for number, name in enumerate(class_names)}
    paths: list[str] = []
    labels: list[int] = []
    for folder in folders:
        found = [source.path.relative_to(root).as_posix() for source in images_below(root / folder, root, set())]
        paths += found
        labels += [index[folder]] * len(found)
    return LabelledFiles(tuple(paths), np.array(labels, np.int64), tuple(class_names), root)


def _split_folders(root: Path) -> tuple[Path, Path | None]:
    """The folder of training images and that of test images; ``None`` for the latter if they are to be held out."""
    folders = folders_in(root)
    candidates = [name for name in TEST_FOLDERS if name in folders]
    if "train" in folders and candidates:
        for name in candidates:
            if class_folders(root / name):
                return root / "train", root / name
        raise NoImages(
            f"{root / candidates[0]} holds no class folders, so its images have no classes; sort them into folders, or "
            f"give {root / 'train'} alone to hold out a share of it"
        )
    if "train" not in folders or not _is_split(root / "train"):
        return root, None
    others = [name for name in class_folders(root) if name != "train"]
    if others:  # taken for classes, "train" and this would be learned apart
        raise InvalidValue(
            f"{root} holds images in {others[0]!r} beside those in 'train'; call the folder of test images "
            f"{', '.join(TEST_FOLDERS[:-1])} or {TEST_FOLDERS[-1]}, or give {root / 'train'} alone to hold out a share "
            "of it"
        )
    return root / "train", None


def _is_split(folder: Path) -> bool:
    """Whether there are images below, and all in folders of their own, so that it is no class itself."""
    labels = {source.label_name for source in images_below(folder, folder, set())}
    return bool(labels) and None not in labels
