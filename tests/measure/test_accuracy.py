"""Accuracy and agreement, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from vitlet.measure.accuracy import agreement, logits_error, top_k


@pytest.mark.parametrize("k", [1, 5])
def test_top_k_is_that_of_scikit_learn(k):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(300, 12)).astype(np.float32)
    labels = generator.integers(12, size=300)
    expected = top_k_accuracy_score(labels, logits, k=k, labels=np.arange(12))
    assert top_k(logits, labels.tolist(), k) == pytest.approx(expected)


def test_unlabelled_images_do_not_count():
    logits = np.eye(3, dtype=np.float32)
    assert top_k(logits, (0, -1, 1), 1) == 0.5
    assert top_k(logits, (-1, -1, -1), 1) is None


def test_equal_logits_earn_nothing():
    logits = np.zeros((10, 10), np.float32)
    assert top_k(logits, range(10), 1) == pytest.approx(0.1)
    assert top_k(logits, range(10), 5) == pytest.approx(0.5)


def test_top_5_of_5_classes_says_nothing():
    assert top_k(np.eye(5, dtype=np.float32), range(5), 5) is None
    assert top_k(np.eye(6, dtype=np.float32), range(6), 5) == 1.0
    assert top_k(np.ones((1, 1), np.float32), [0], 1) is None


def test_logits_error_is_relative():
    reference = np.array([[3.0, 0.0], [0.0, 4.0]], np.float32)
    assert logits_error(reference, reference) == 0
    assert logits_error(reference * 1.5, reference) == pytest.approx(0.5)
    assert logits_error(reference + np.array([[0, 1], [0, 0]], np.float32), reference) == pytest.approx(1 / 5)
    assert logits_error(reference, np.zeros_like(reference)) is None
    # float32 would overflow on the way.
    assert logits_error(reference * 2e19, reference * 1e19) == pytest.approx(1.0)


def test_agreement_is_of_the_top_answer():
    a = np.array([[1, 2, 3], [3, 2, 1]], np.float32)
    b = np.array([[2, 1, 3], [1, 3, 2]], np.float32)
    assert agreement(a, b) == 0.5
    assert agreement(a, a) == 1.0
