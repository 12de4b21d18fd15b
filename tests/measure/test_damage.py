"""Accuracy by class, changed images, and confidence against accuracy, on answers that are known."""

from __future__ import annotations

import numpy as np
import pytest

from vitlet.data.imageset import ImageSet
from vitlet.measure.accuracy import expected_calibration_error
from vitlet.measure.damage import ChangedImage, ClassResult, changed_images, changed_pictures, class_results
from vitlet.records import ImageSpec


def answers(*classes: int, count: int = 3) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[list(classes)] * 5


LABELS = (0, 0, 1, 1, -1)
BEFORE = answers(0, 0, 1, 2, 2)
AFTER = answers(0, 1, 1, 2, 0)


def test_each_class_is_counted_against_the_standard():
    assert class_results(AFTER, LABELS, BEFORE) == (ClassResult(0, 2, 1, 2), ClassResult(1, 2, 1, 1))
    assert [one.lost for one in class_results(AFTER, LABELS, BEFORE)] == [1, 0]
    assert class_results(AFTER, LABELS) == (ClassResult(0, 2, 1), ClassResult(1, 2, 1))


def test_changed_images_are_named_also_without_a_label():
    assert changed_images(AFTER, LABELS, BEFORE) == (ChangedImage(1, 0, 0, 1), ChangedImage(4, -1, 2, 0))
    assert changed_images(BEFORE, LABELS, BEFORE) == ()


def test_what_was_right_before_is_shown_first_with_its_pixels(tmp_path):
    pixels = np.arange(5 * 2 * 3 * 3, dtype=np.uint8).reshape(5, 2, 3, 3)
    np.save(tmp_path / "pixels.npy", pixels)
    images = ImageSet(tmp_path / "pixels.npy", ImageSpec(2, 3, (2, 3)), tuple("abcde"), LABELS)
    lost, other = changed_pictures(images, AFTER, BEFORE, ("x", "y", "z"), 9)
    assert (lost.name, lost.truth, lost.before, lost.after) == ("b", "x", "x", "y")
    assert (other.name, other.truth, other.before, other.after) == ("e", "", "z", "x")
    assert lost.before_share == lost.after_share == pytest.approx(np.exp(5) / (np.exp(5) + 2))
    assert (lost.height, lost.width, lost.pixels) == (2, 3, pixels[1].tobytes())
    assert changed_pictures(images, AFTER, BEFORE, ("x", "y", "z"), 1) == (lost,)


def logits_with(confidence: float, images: int) -> np.ndarray:
    """Two classes; the first gets this softmax probability."""
    return np.tile(np.log([confidence, 1 - confidence]).astype(np.float32), (images, 1))


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    labels = [0] * 6 + [1] * 4  # 60 % right
    assert expected_calibration_error(logits_with(0.9, 10), labels) == pytest.approx(0.3, abs=1e-6)
    assert expected_calibration_error(logits_with(0.6, 10), labels) == pytest.approx(0.0, abs=1e-6)
    assert expected_calibration_error(logits_with(1 - 1e-9, 10), [0] * 10) == pytest.approx(0.0, abs=1e-6)


def test_calibration_error_adds_the_bins_up_and_leaves_unlabelled_images_out():
    logits = np.concatenate([logits_with(0.9, 10), logits_with(0.6, 10)])
    labels = [0] * 6 + [1] * 4 + [0] * 10
    # Half of the images are 0.3 too sure, half 0.4 too modest.
    assert expected_calibration_error(logits, labels) == pytest.approx(0.35, abs=1e-6)
    assert expected_calibration_error(logits, [*labels[:10], *[-1] * 10]) == pytest.approx(0.3, abs=1e-6)
    assert expected_calibration_error(logits, [-1] * 20) is None
