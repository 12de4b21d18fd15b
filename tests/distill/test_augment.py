"""The augmentation moves, mirrors and erases, and nothing else."""

import numpy as np
import pytest
import torch

from vitlet.data.preprocess import normalise
from vitlet.distill.augment import augmented, erase, normalised, shift_and_flip
from vitlet.distill.recipe import Recipe
from vitlet.records import ImageSpec

SPEC = ImageSpec(6, 7, (6, 7), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(colour: bool, count: int = 40) -> torch.Tensor:
    shape = (count, 6, 7, 3) if colour else (count, 6, 7)
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=generator())


@pytest.mark.parametrize("colour", [False, True])
def test_normalised_is_what_the_engines_get(colour):
    images = pixels(colour)
    rgb = images if colour else images.unsqueeze(-1).expand(-1, -1, -1, 3)
    np.testing.assert_allclose(normalised(images, SPEC).numpy(), normalise(rgb.numpy(), SPEC), rtol=0, atol=1e-6)


@pytest.mark.parametrize("colour", [False, True])
def test_each_image_is_shifted_and_mirrored_as_a_whole(colour):
    images = pixels(colour)
    moved = shift_and_flip(images, 1, 0.5, generator())
    found = set()
    for image, result in zip(images.numpy(), moved.numpy(), strict=True):
        padded = np.pad(image, ((1, 1), (1, 1)) + ((0, 0),) * colour)
        for mirrored in (False, True):
            for down in range(3):
                for across in range(3):
                    window = padded[down : down + 6, across : across + 7]
                    if np.array_equal(window[:, ::-1] if mirrored else window, result):
                        found.add((mirrored, down, across))
                        break
    assert len(found) > 12  # of 18 ways, 40 images show nearly all
    assert {way[0] for way in found} == {False, True}


def test_every_result_is_one_of_the_ways():
    images = pixels(False, 200)
    moved = shift_and_flip(images, 2, 0.5, generator(1))
    for image, result in zip(images.numpy(), moved.numpy(), strict=True):
        padded = np.pad(image, 2)
        windows = [padded[d : d + 6, a : a + 7] for d in range(5) for a in range(5)]
        assert any(np.array_equal(w, result) or np.array_equal(w[:, ::-1], result) for w in windows)


def test_share_of_mirrored_images():
    images = pixels(False, 4000)
    moved = shift_and_flip(images, 0, 0.25, generator())
    mirrored = (moved == images.flip(2)).all(dim=2).all(dim=1)
    assert mirrored.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(moved[~mirrored], images[~mirrored])


def test_erasing_draws_one_rectangle_in_the_share_of_images():
    images = torch.full((3000, 3, 28, 28), 7.0)
    erased = erase(images, 0.2, generator())
    changed = (erased != images).any(dim=1)
    touched = changed.flatten(1).any(dim=1)
    assert touched.float().mean().item() == pytest.approx(0.2, abs=0.03)
    for mask in changed[touched][:100]:
        rows, columns = mask.any(dim=1), mask.any(dim=0)
        assert torch.equal(mask, rows[:, None] & columns[None, :])
        assert mask.float().mean() < 0.4


def test_no_variation_leaves_the_image():
    images = pixels(True)
    recipe = Recipe(flip=0.0, shift=0, erase=0.0)
    assert torch.equal(augmented(images, SPEC, recipe, generator()), normalised(images, SPEC))


def test_the_generator_is_all_the_randomness():
    images, recipe = pixels(False), Recipe(erase=0.5)
    before = torch.get_rng_state()
    first, second = (augmented(images, SPEC, recipe, generator(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, augmented(images, SPEC, recipe, generator(6)))
    assert torch.equal(before, torch.get_rng_state())
