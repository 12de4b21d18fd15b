"""Images that are made where none are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitlet.data.gather import Wanted, gather, gather_parts
from vitlet.data.made import MOST, dead_leaves, is_made, make_images
from vitlet.records import ImageSpec

SPEC = ImageSpec(24, 32, (24, 32))


def pixels(images) -> np.ndarray:
    return np.load(images.pixels_path)


def test_always_the_same_and_no_two_alike(tmp_path: Path) -> None:
    one, again = (make_images(SPEC, tmp_path / name, limit=5) for name in "ab")
    other = make_images(SPEC, tmp_path / "c", split="train", limit=5)
    assert one.digest == again.digest
    assert pixels(one).shape == (5, 24, 32, 3)
    every = np.concatenate([pixels(one), pixels(other)])
    assert len({image.tobytes() for image in every}) == 10
    assert one.labels == (-1,) * 5
    assert "made by vitlet" in one.note
    assert make_images(ImageSpec(8, 8, 8), tmp_path / "d").count == MOST


def test_they_have_the_spectrum_of_photographs() -> None:
    """Power falls with about the square of the frequency (Field, 1987), where that of noise is flat."""
    slopes = []
    for seed in range(8):
        gray = dead_leaves(np.random.default_rng(seed), 128, 128).mean(axis=2)
        power = np.abs(np.fft.fft2((gray - gray.mean()) * np.outer(np.hanning(128), np.hanning(128)))) ** 2
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
        rings = [(low, low * 1.4) for low in 0.03 * 1.4 ** np.arange(6)]
        means = [power[(frequency >= low) & (frequency < high)].mean() for low, high in rings]
        slopes.append(np.polyfit(np.log([low for low, _ in rings]), np.log(means), 1)[0])
    assert -3.5 < np.mean(slopes) < -1.5


@pytest.mark.parametrize("take", [gather, gather_parts])
def test_what_is_measured_is_not_what_is_learned_from_and_nothing_judges(tmp_path: Path, take) -> None:
    found = take(Wanted(["none"], limit=20), SPEC, ("a", "b"), tmp_path, calibrated=True)
    assert found.to_certify is None
    assert found.images.count == 20
    assert found.calibration.note == "calibrated on images that vitlet made, since none were given"
    measured = {image.tobytes() for image in pixels(found.images)}
    assert not measured & {image.tobytes() for image in np.load(found.calibration.pixels_path)}


def test_the_word_and_nothing_else() -> None:
    assert is_made(["none"])
    assert not is_made(["./none"])
    assert not is_made(["none", "photos"])
    assert not is_made([])
