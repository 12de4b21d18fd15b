"""Data sets of the Hugging Face Hub, or of a folder of Parquet files, through the package ``datasets``.

``hf:OWNER/NAME``, ``hf:OWNER/NAME@CONFIG`` where it has several configurations, and ``hf:./FOLDER`` (``hf:/FOLDER``,
``hf:~/FOLDER``) for files on disk. Since its version 4 the package runs no code that comes with a data set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitlet.data.find import path_at
from vitlet.data.rows import LabelledRows
from vitlet.data.splits import Split, check_split, part
from vitlet.errors import HubUnreachable, InvalidValue, NoImages, UnreadableImage, Unsupported

PREFIX = "hf:"
#: What a split of test images is called; the first that is there, with labels, is taken.
TEST_SPLITS = ("test", "validation", "valid", "val")

_ON_DISK = (".", "/", "~")


def load_hf(name: str, split: Split, root: Path | None = None) -> LabelledRows:
    """The images of one column with the classes of another: the only one of type ``Image``, the only one of type
    ``ClassLabel``. Images are decoded when they are read.

    "train" is the split of that name, "test" the first of ``TEST_SPLITS`` that has labels; where there is none, a share
    of each class of "train" is held out. ``root`` is the folder to keep downloads in, instead of the package's own.

    Raises:
        InvalidValue: a malformed or unknown name or configuration; no such split; not one column of each type.
        Unsupported: the package ``datasets`` is not installed.
        HubUnreachable: it cannot be downloaded.
        NoImages: there are no files of data in the folder or repository.
        UnreadableImage: they are damaged, or images lack a label.
    """
    check_split(split)
    splits = _load(name, root)
    if not splits:
        raise NoImages(f"{name} has no splits, so no images; name another data set")
    features = next(iter(splits.values())).features
    image_column, label_column = _column(name, features, "Image"), _column(name, features, "ClassLabel")
    test_name = next(
        (other for other in TEST_SPLITS if other in splits and _labelled(splits[other], label_column)), None
    )
    split_name = "train" if split == "train" or test_name is None else test_name
    if split_name not in splits:
        raise InvalidValue(f"{name} has no split {split_name!r}; its splits are: {', '.join(splits)}")
    table = splits[split_name]
    labels = _labels(table, label_column)
    title = f"{name} {split_name}"
    if (labels < 0).any():
        raise UnreadableImage(
            f"{title}: {np.count_nonzero(labels < 0)} of {len(labels)} rows have no label; remove them"
        )
    class_names = tuple(table.features[label_column].names)
    rows = part(labels, class_names, split) if test_name is None else np.arange(len(labels))
    return LabelledRows(
        table=_undecoded(table, image_column),
        column=image_column,
        rows=rows,
        labels=labels[rows],
        class_names=class_names,
        title=title,
        fingerprint=table._fingerprint,
    )


def _load(name: str, root: Path | None) -> Mapping[str, Any]:
    """Every split of the data set, by name, each a ``datasets.Dataset``."""
    source, config = _parsed(name)
    try:
        import datasets
        import pyarrow
        from datasets.data_files import EmptyDatasetError
        from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError, DatasetsError
    except ImportError as error:
        raise Unsupported(
            f"{name} needs the package datasets, which is missing; install it with: pip install 'vitlet[datasets]'"
        ) from error
    if int(datasets.__version__.split(".")[0]) < 4:  # it would run a repository's own script
        raise Unsupported(f"datasets {datasets.__version__} is too old; install 4 or newer: pip install -U datasets")
    try:
        return datasets.load_dataset(source, config, cache_dir=None if root is None else str(root))
    except DatasetNotFoundError as error:
        raise InvalidValue(
            f"the Hugging Face Hub has no data set {source!r} that you may read; check its name, log in if it is gated"
        ) from error
    except (EmptyDatasetError, DataFilesNotFoundError) as error:
        raise NoImages(f"{name} holds no files of data; name a folder or repository of Parquet files") from error
    except (DatasetsError, pyarrow.ArrowException) as error:  # what a reader raised is the cause of the first
        raise UnreadableImage(f"{name} cannot be read: {_reason(error.__cause__ or error)}; get it again") from error
    except ValueError as error:  # an unknown configuration, or several and none named
        raise InvalidValue(f"{name} cannot be loaded: {_reason(error)}") from error
    except Exception as error:  # of whichever library meets the network or the disk
        raise HubUnreachable(
            f"{name} cannot be had ({_reason(error)}); check the network and the free space"
        ) from error


def _parsed(name: str) -> tuple[str, str | None]:
    """The package's name for it (for a folder its absolute path, which it can take for nothing else) and the
    configuration.
    """
    text = name.removeprefix(PREFIX)
    source, _, config = text.partition("@")
    if source.startswith(_ON_DISK):
        for path, chosen in ((text, None), (source, config or None)):  # a folder's name may have an @ in it
            folder = path_at(path)
            if folder is not None and folder.is_dir():
                return str(folder.absolute()), chosen
        raise InvalidValue(f"{name}: there is no folder {source}; name one that holds Parquet files")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source):
        raise InvalidValue(
            f"{name!r} names no Hugging Face data set; write hf:OWNER/NAME, hf:OWNER/NAME@CONFIG or hf:./FOLDER"
        )
    return source, config or None


def _column(name: str, features: Mapping[str, Any], kind: str) -> str:
    """The only column of that type: "Image" or "ClassLabel"."""
    columns = [column for column, feature in features.items() if type(feature).__name__ == kind]
    if len(columns) == 1:
        return columns[0]
    which = f"has {len(columns)} ({', '.join(columns)})" if columns else "has none"
    listed = ", ".join(f"{column} ({type(feature).__name__})" for column, feature in features.items())
    raise InvalidValue(f"{name} needs one column of type {kind}, and {which}; its columns are: {listed}")


def _labels(table: Any, column: str) -> np.ndarray:
    """int64 [rows], -1 where there is none."""
    return table.data.column(column).fill_null(-1).to_numpy().astype(np.int64)


def _labelled(table: Any, column: str) -> bool:
    """Whether it has any label: competitions publish their test images without."""
    return bool((_labels(table, column) >= 0).any())


def _undecoded(table: Any, column: str) -> Any:
    """The same with that column alone, its images as encoded bytes: ``data/read.py`` decodes, as everywhere."""
    import datasets

    return table.select_columns([column]).cast_column(column, datasets.Image(decode=False))


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
