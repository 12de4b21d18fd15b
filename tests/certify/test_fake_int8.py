"""Rounding to 8 bits, against the same written in numpy on integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitlet.certify.fake_int8 import rounded_activation, rounded_activation_by_image, rounded_weight, sqnr_db


def integers(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """values -> uint8 levels and back, in float64."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / 255
    zero = round(-low / step)
    levels = np.clip(np.rint(values.astype(np.float64) / step) + zero, 0, 255).astype(np.uint8)
    return (levels.astype(np.int32) - zero) * step


@pytest.mark.parametrize(("low", "high"), [(-1.3, 2.1), (0.0, 6.0), (0.5, 4.0), (-3.0, -0.25), (-0.17, 12.0)])
def test_activations(low: float, high: float) -> None:
    values = np.random.default_rng(0).normal(0.5, 2.0, (3, 5, 7)).astype(np.float32)
    found = rounded_activation(torch.from_numpy(values), low, high).numpy()
    np.testing.assert_allclose(found, integers(values, low, high), atol=1e-5)
    assert len(np.unique(found)) <= 256
    assert 0.0 in rounded_activation(torch.zeros(1), low, high)  # a level of its own: padding stays exact


def test_each_image_has_its_own_range() -> None:
    values = (
        np.random.default_rng(1).normal(size=(3, 4, 6)).astype(np.float32) * np.array([1, 100, 0.01])[:, None, None]
    )
    values = values.astype(np.float32)
    found = rounded_activation_by_image(torch.from_numpy(values)).numpy()
    for image, rounded in zip(values, found, strict=True):
        np.testing.assert_allclose(rounded, integers(image, image.min(), image.max()), rtol=1e-5, atol=1e-7)


def test_weights_by_output_channel() -> None:
    weight = np.random.default_rng(2).normal(size=(4, 3, 2, 2)).astype(np.float32)
    weight[1] *= 1000
    weight[3] = 0
    found = rounded_weight(torch.from_numpy(weight)).numpy()
    for row, rounded in zip(weight[:3].reshape(3, -1), found[:3].reshape(3, -1), strict=True):
        step = np.abs(row).max() / 127
        np.testing.assert_allclose(rounded, np.rint(row / step).astype(np.int8) * step, rtol=1e-5)
    assert not found[3].any()


def test_what_is_constant_or_empty_of_range_survives() -> None:
    zeros = torch.zeros(2, 3)
    assert torch.equal(rounded_activation(zeros, 0.0, 0.0), zeros)
    assert torch.equal(rounded_activation_by_image(zeros), zeros)


def test_sqnr() -> None:
    assert sqnr_db(100.0, 1.0) == pytest.approx(20.0)
    assert sqnr_db(1.0, 0.0) is None
    assert sqnr_db(0.0, 1.0) is None
