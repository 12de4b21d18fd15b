"""Which classes became worse, told with a bound that holds for all of them at once."""

from __future__ import annotations

import numpy as np
import pytest

from vitlet.certify.classes import NAMED, worst_classes
from vitlet.certify.paired import Paired, lower_bound, upper_bound


def outcomes(*classes: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, right before and right after, of classes with (images, lost, won); the rest are right both times."""
    labels, before, after = [], [], []
    for index, (images, lost, won) in enumerate(classes):
        labels += [index] * images
        before += [True] * lost + [False] * won + [True] * (images - lost - won)
        after += [False] * lost + [True] * won + [True] * (images - lost - won)
    return np.array(labels), np.array(before), np.array(after)


def test_bounds_share_the_error_among_the_classes():
    found = worst_classes(*outcomes((100, 3, 1), (80, 0, 0), (60, 0, 2), (100, 30, 1)), 0.9)
    assert [(one.index, one.images, one.lost, one.won) for one in found] == [(3, 100, 30, 1), (0, 100, 3, 1)]
    worst = Paired(100, 30, 1)
    assert found[0].drop_at_least == pytest.approx(lower_bound(worst, 1 - 0.1 / 4))
    assert found[0].drop_at_most == pytest.approx(upper_bound(worst, 1 - 0.1 / 4))
    assert found[0].drop_at_least > 0 > found[1].drop_at_least
    assert found[0].drop == pytest.approx(0.29)


def test_what_is_clear_comes_before_what_only_looks_worse():
    """One image of one lost is a drop of 100 points, and proves nothing."""
    found = worst_classes(*outcomes((1, 1, 0), (1000, 100, 0)), 0.95)
    assert [one.index for one in found] == [1, 0]


def test_images_without_a_label_and_classes_without_images_do_not_count():
    labels, before, after = outcomes((50, 20, 0))
    labels = np.concatenate([labels + 7, [-1] * 50])
    before, after = (np.concatenate([right, [True] * 50]) for right in (before, ~before | after))
    after[60:] = False
    (found,) = worst_classes(labels, before, after, 0.95)
    assert (found.index, found.images, found.lost) == (7, 50, 20)
    assert found.drop_at_least == pytest.approx(lower_bound(Paired(50, 20, 0), 0.95))


def test_at_most_ten_are_named():
    assert len(worst_classes(*outcomes(*[(20, 2, 0)] * 30), 0.95)) == NAMED


def test_no_class_is_worse():
    assert worst_classes(*outcomes((10, 1, 1), (10, 0, 3)), 0.95) == ()
    assert worst_classes(np.array([-1, -1]), np.array([True, True]), np.array([False, False]), 0.95) == ()


def test_of_equal_models_hardly_ever_one_class_seems_surely_worse():
    """1,000 classes of 50 images each; answers change by chance, without a drop: in at most 5 of 100 cases."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(1000), 50)
    wrong = 0
    for _ in range(10):
        changed = generator.random(len(labels)) < 0.1
        before = generator.random(len(labels)) < 0.5
        found = worst_classes(labels, before, np.where(changed, ~before, before), 0.95)
        wrong += any(one.drop_at_least > 0 for one in found)
    assert wrong <= 2  # 0.5 are expected at most; more than 2 have a probability of 0.012
