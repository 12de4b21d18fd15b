"""Float weights to int8: what each way of rounding promises of the layer's error."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data

from vitlet.engines.native.rounding import centred, rounded, rounded_for_pixels


def weights(outputs: int, patch: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((outputs, 3 * patch * patch))


def patches(photo: np.ndarray, size: int) -> np.ndarray:
    """[patches, 3 * size * size] of a photo [height, width, 3], less the mean of all its pixels."""
    rows, columns = photo.shape[0] // size, photo.shape[1] // size
    whole = photo[: rows * size, : columns * size].astype(np.float64)
    whole -= whole.mean()
    return whole.reshape(rows, size, columns, size, 3).transpose(0, 2, 4, 1, 3).reshape(rows * columns, -1)


def layer_error(found: tuple[np.ndarray, np.ndarray], weight: np.ndarray, inputs: np.ndarray) -> float:
    steps, scale = found
    wanted = inputs @ weight.T
    lost = inputs @ (steps * scale[:, None].astype(np.float64)).T - wanted
    return float(np.linalg.norm(lost) / np.linalg.norm(wanted))


def test_plain_rounding_is_within_half_a_step():
    weight = weights(16, 8)
    steps, scale = rounded(weight)
    assert steps.dtype == np.int8
    assert scale.dtype == np.float32
    assert (np.abs(steps).max(1) == 127).all()
    assert (np.abs(steps * scale[:, None] - weight) <= 0.5001 * scale[:, None]).all()


@pytest.mark.parametrize("rounding", [rounded, lambda weight: rounded_for_pixels(weight, 4)])
def test_a_row_of_zeros_stays_zero(rounding):
    weight = weights(3, 4)
    weight[1] = 0
    steps, scale = rounding(weight)
    assert (steps[1] == 0).all()
    assert scale[1] == 1


@pytest.mark.parametrize(("patch", "most"), [(4, 0.35), (16, 0.2), (20, 0.25)])
@pytest.mark.parametrize("photo", ["astronaut", "coffee"])
def test_errors_of_pixels_that_are_alike_cancel_out(photo, patch, most):
    """A patch of 20 pixels is rounded in four parts."""
    weight, inputs = weights(64, patch), patches(getattr(data, photo)(), patch)
    found = rounded_for_pixels(weight, patch)
    assert found[0].shape == weight.shape
    np.testing.assert_array_equal(found[1], rounded(weight)[1])
    assert layer_error(found, weight, inputs) < most * layer_error(rounded(weight), weight, inputs)


def test_white_noise_loses_little():
    """Of what no photo has, a patch embedding keeps nearly as much as by plain rounding."""
    weight, inputs = weights(64, 16), np.random.default_rng(1).standard_normal((500, 768))
    found = layer_error(rounded_for_pixels(weight, 16), weight, inputs)
    assert found < 1.4 * layer_error(rounded(weight), weight, inputs)


def test_pixels_rounding_is_optq():
    """Against the definition: each weight rounded, the error spread over the rest by conditional expectation."""
    weight = weights(5, 2)
    distance = np.hypot(*(np.subtract.outer(axis, axis) for axis in np.divmod(np.arange(4), 2)))
    alike = np.kron(np.where(np.eye(3) > 0, 1, 0.9), 0.9**distance) + 0.01 * np.eye(12)
    found, scale = rounded_for_pixels(weight, 2)
    rest = weight / scale[:, None]
    for number in range(12):
        np.testing.assert_array_equal(found[:, number], np.clip(np.rint(rest[:, number]), -127, 127))
        error = rest[:, number] - found[:, number]
        later = slice(number + 1, None)
        # What of the others' inputs is foretold by this one's, those before being fixed.
        rest[:, later] += error[:, None] * np.linalg.solve(alike[later, later], alike[later, number])


def test_centred_weights_give_the_same_for_inputs_that_sum_to_zero():
    weight = weights(16, 4) + 0.5
    inputs = np.random.default_rng(1).standard_normal((10, 48))
    inputs -= inputs.mean(1, keepdims=True)
    np.testing.assert_allclose(inputs @ centred(weight).T, inputs @ weight.T, atol=1e-12)
    np.testing.assert_allclose(centred(weight).max(1), -centred(weight).min(1))
