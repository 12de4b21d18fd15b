"""Holding images out for testing."""

from __future__ import annotations

import numpy as np
import pytest

from vitlet.data.splits import part
from vitlet.errors import InvalidValue

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [100, 40, 3]))
NAMES = ("a", "b", "c")


def test_the_parts_are_disjoint_and_whole() -> None:
    train, test = (part(LABELS, NAMES, split) for split in ("train", "test"))
    assert sorted([*train, *test]) == list(range(143))
    assert train.dtype == test.dtype == np.int64
    assert (np.diff(train) > 0).all()
    assert (np.diff(test) > 0).all()


@pytest.mark.parametrize(
    ("holdout", "counts"), [(0.1, [10, 4, 1]), (0.25, [25, 10, 1]), (0.999, [99, 39, 2]), (1e-9, [1, 1, 1])]
)
def test_a_share_of_each_class(holdout: float, counts: list[int]) -> None:
    test = part(LABELS, NAMES, "test", holdout=holdout)
    assert np.bincount(LABELS[test]).tolist() == counts


def test_a_seed_decides_which() -> None:
    first = part(LABELS, NAMES, "test", seed=1)
    np.testing.assert_array_equal(first, part(LABELS, NAMES, "test", seed=1))
    assert first.tolist() != part(LABELS, NAMES, "test", seed=2).tolist()
    assert not set(part(LABELS, NAMES, "train", seed=2)) & set(part(LABELS, NAMES, "test", seed=2))


def test_a_class_without_images_is_passed_over() -> None:
    assert part(np.array([0, 2, 0, 2]), NAMES, "test").size == 2
    assert part(np.array([], np.int64), NAMES, "test").size == 0


def test_a_class_of_one_image_is_named() -> None:
    with pytest.raises(InvalidValue, match="class 'b' has one image only"):
        part(np.array([0, 0, 1]), NAMES, "train")


@pytest.mark.parametrize("holdout", [0, 1, -0.1, 1.5, float("nan")])
def test_the_share_is_checked(holdout: float) -> None:
    with pytest.raises(InvalidValue, match=f"holdout is {holdout}; it must be a share between 0 and 1"):
        part(LABELS, NAMES, "test", holdout=holdout)
