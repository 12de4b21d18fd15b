"""How good a variant's answers are: against the labels, and against the uncompressed model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def logits_error(logits: np.ndarray, reference: np.ndarray) -> float | None:
    """Relative L2 distance ``|logits - reference| / |reference|`` over all images.

    Both float32 [images, classes]. ``None`` if the reference is all zeros.
    """
    size = float(np.linalg.norm(reference.astype(np.float64)))
    if size == 0:
        return None
    return float(np.linalg.norm(logits.astype(np.float64) - reference.astype(np.float64))) / size


def agreement(logits: np.ndarray, reference: np.ndarray) -> float:
    """Share of images whose top answer is the reference's; both float32 [images, classes]."""
    return float(np.mean(logits.argmax(axis=1) == reference.argmax(axis=1)))


def kl_divergence(logits: np.ndarray, reference: np.ndarray) -> float:
    """Mean over the images of the Kullback-Leibler divergence from the reference's softmax probabilities to the
    others', in nats; both float32 [images, classes]. 0 where the probabilities are equal.
    """
    ours, theirs = _log_shares(logits), _log_shares(reference)
    return max(0.0, float(np.mean((np.exp(theirs) * (theirs - ours)).sum(axis=1))))


def top_k(logits: np.ndarray, labels: Sequence[int], k: int) -> float | None:
    """Share of labelled images whose label is among the ``k`` largest of float32 [images, classes].

    Images with label -1 do not count; of equal logits the first class counts as larger, so a
    model that answers the same for every class earns nothing. ``None`` if no image has a label,
    or if there are no more than ``k`` classes: then every answer would be right.
    """
    known = np.asarray(labels)
    has_label = known >= 0
    classes = logits.shape[1]
    if not has_label.any() or classes <= k:
        return None
    logits, known = logits[has_label], known[has_label]
    own = np.take_along_axis(logits, known[:, np.newaxis], axis=1)
    earlier = np.arange(classes) < known[:, np.newaxis]
    rank = np.count_nonzero((logits > own) | ((logits == own) & earlier), axis=1)
    return float(np.mean(rank < k))


def expected_calibration_error(logits: np.ndarray, labels: Sequence[int], bins: int = 15) -> float | None:
    """How far confidence is from accuracy: the mean over labelled images of ``|accuracy - confidence|``
    of their bin, the bins being of equal width in the largest softmax probability (Guo et al., "On
    Calibration of Modern Neural Networks", arXiv 1706.04599, eq. 3).

    ``logits`` float32 [images, classes]; images with label -1 do not count. ``None`` if none has a label.
    """
    known = np.asarray(labels)
    has_label = known >= 0
    if not has_label.any():
        return None
    values = logits[has_label].astype(np.float64)
    shares = np.exp(values - values.max(axis=1, keepdims=True))
    confidence = shares.max(axis=1) / shares.sum(axis=1)
    right = values.argmax(axis=1) == known[has_label]
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(number, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax, float64 [images, classes]."""
    shares: np.ndarray = np.exp(_log_shares(logits))
    return shares


def _log_shares(logits: np.ndarray) -> np.ndarray:
    """The logarithms of the softmax probabilities, float64 [images, classes]."""
    values = logits.astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    shares: np.ndarray = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    return shares
