"""The two parts of a data set, and how one is made from the other where there is only one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from vitlet.errors import InvalidValue

Split: TypeAlias = Literal["train", "test"]

#: The share of the images that is held out for testing where a data set has no images for it.
HOLDOUT = 0.1


def check_split(split: str) -> None:
    """Refuse what is no split.

    Raises:
        InvalidValue: it is neither "train" nor "test".
    """
    if split not in ("train", "test"):
        raise InvalidValue(f"split is {split!r}; it must be 'train' or 'test'")


def part(
    labels: np.ndarray, class_names: Sequence[str], split: Split, *, holdout: float = HOLDOUT, seed: int = 0
) -> np.ndarray:
    """The images of ``split`` when a share ``holdout`` of each class is held out for "test": int64 [n], ascending
    indices into ``labels`` (int64 [count]).

    Of each class that has images at least one is held out and at least one is left. The two parts have no image in
    common, and are always the same for a ``seed``.

    Raises:
        InvalidValue: ``holdout`` is not between 0 and 1, or a class has only one image.
    """
    if not 0 < holdout < 1:
        raise InvalidValue(f"holdout is {holdout}; it must be a share between 0 and 1")
    generator = np.random.default_rng(seed)
    by_class = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_class], np.arange(len(class_names) + 1))
    is_test = np.zeros(len(labels), bool)
    for name, start, end in zip(class_names, starts[:-1], starts[1:], strict=True):
        count = int(end - start)
        if count == 0:
            continue
        if count == 1:
            raise InvalidValue(
                f"class {name!r} has one image only, so none can be held out for testing; add images of it, remove it, "
                "or give training and test images apart"
            )
        held_out = min(max(1, round(holdout * count)), count - 1)
        is_test[generator.permutation(by_class[start:end])[:held_out]] = True
    return np.flatnonzero(is_test if split == "test" else ~is_test)
