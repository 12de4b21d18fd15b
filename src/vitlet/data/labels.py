"""Which class of a model the name of a folder, or of a data set's class, stands for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_WORDNET_ID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class LabelMatch:
    """``indices`` has the class index of each name that could be matched; ``note`` says in one
    sentence what a person should know of it, mostly nothing.
    """

    indices: Mapping[str, int]
    note: str = ""


def match_labels(names: Iterable[str], labels: Sequence[str]) -> LabelMatch:
    """Match the names of class folders to ``labels``, the model's own in the order of its classes.

    Tried in this order: the whole label, or one synonym of a label such as "tabby, tabby cat"
    (upper and lower case, spaces, underscores and other signs are alike); if that matches no name,
    and all are numbers, they are class indices; if all are WordNet ids such as n01440764 and the
    model has 1000 classes, they are ImageNet-1k's in timm's order. A name that stands for several
    classes ("crane", the bird and the machine) matches none: no answer rather than a wrong one.
    """
    folders = sorted(set(names))
    if not folders:
        return LabelMatch({})
    by_name = _by_name(labels)
    indices = {folder: by_name[key] for folder in folders if (key := _key(folder)) in by_name}
    note = ""
    if not indices and all(folder.isascii() and folder.isdigit() for folder in folders):
        indices = {folder: int(folder) for folder in folders if int(folder) < len(labels)}
        note = "folders named by numbers were taken for class indices" if indices else ""
    elif not indices and len(labels) == 1000 and all(_WORDNET_ID.fullmatch(folder) for folder in folders):
        ids = _imagenet_ids()
        indices = {folder: ids[folder] for folder in folders if folder in ids}
    missing = [folder for folder in folders if folder not in indices]
    if missing:
        unmatched = (
            f"{_how_many(len(missing), len(folders))} could not be matched to one "
            f"label of the model ({_listed(missing)}); their images count as unlabelled"
        )
        note = f"{note}; {unmatched}" if note else unmatched
    return LabelMatch(indices, note)


@dataclass(frozen=True)
class ClassMatch:
    """``indices`` has the model's class for each class of a data set, -1 where it could not be matched; ``note`` as in
    ``LabelMatch``.
    """

    indices: tuple[int, ...]
    note: str = ""


def match_classes(class_names: Sequence[str], labels: Sequence[str]) -> ClassMatch:
    """Match the classes of a data set, in their order, to ``labels``, the model's own.

    If these are the same names in the same order, so are the classes, even where two are called alike. Otherwise each
    name is matched as ``match_labels`` says, but one that two classes of the data set share matches none.
    """
    if [_key(name) for name in class_names] == [_key(label) for label in labels]:
        return ClassMatch(tuple(range(len(labels))))
    match = match_labels(class_names, labels)
    shared = sorted(name for name, times in Counter(class_names).items() if times > 1 and name in match.indices)
    found = tuple(-1 if name in shared else match.indices.get(name, -1) for name in class_names)
    doubt = f"several classes share a name ({_listed(shared)}); their images count as unlabelled" if shared else ""
    return ClassMatch(found, "; ".join(filter(None, (match.note, doubt))))


def _key(name: str) -> str:
    """Letters and digits only, one space between words: "T-shirt/top" and "t_shirt top" are equal."""
    return " ".join(re.findall(r"[^\W_]+", name.casefold()))


def _by_name(labels: Sequence[str]) -> dict[str, int]:
    """The class of each name that stands for exactly one. A whole label goes before a synonym."""
    whole = _unique((_key(label), index) for index, label in enumerate(labels))
    parts = _unique((_key(part), index) for index, label in enumerate(labels) for part in label.split(","))
    known = {name: index for name, index in (parts | whole).items() if index is not None}
    known.pop("", None)
    return known


def _unique(pairs: Iterable[tuple[str, int]]) -> dict[str, int | None]:
    """Name to class, or to None where several claim it."""
    found: dict[str, int | None] = {}
    for name, index in pairs:
        found[name] = index if found.get(name, index) == index else None
    return found


def _imagenet_ids() -> dict[str, int]:
    from timm.data.imagenet_info import ImageNetInfo  # heavy, and rarely wanted

    names: list[str] = ImageNetInfo("imagenet-1k").label_names()  # type: ignore[no-untyped-call]
    return {name: index for index, name in enumerate(names)}


def _how_many(missing: int, folders: int) -> str:
    if missing < folders:
        return f"{missing} of the {folders} class folders"
    return f"all {folders} class folders" if folders > 1 else "the only class folder"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown}, and {len(names) - 5} more" if len(names) > 5 else shown
