"""An image is varied as the recipe says, by its seed alone, and for DeiT's settings by DeiT's own transform."""

import random
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torchvision import transforms

from vitlet.data.preprocess import normalise, preprocess
from vitlet.distill.recipe import Augmentation
from vitlet.distill.variation import kept_generators, seed_all, training_transform
from vitlet.errors import InvalidValue
from vitlet.records import ImageSpec

SPEC = ImageSpec(10, 12, (10, 12), "bilinear", mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
IMAGENET = ImageSpec(32, 32, 36)  # with ImageNet's mean and standard deviation
NOTHING = Augmentation("none", flip=0, colour_jitter=0, random_augment="", repeats=1, mixup=0, cutmix=0, erase=0)


def picture(height: int = 10, width: int = 12, seed: int = 0) -> Image.Image:
    """No two places alike and none black."""
    return Image.fromarray(np.random.default_rng(seed).integers(1, 256, (height, width, 3), dtype=np.uint8))


def varied(augmentation: Augmentation, image: Image.Image, seed: int, spec: ImageSpec = SPEC) -> torch.Tensor:
    transform = training_transform(augmentation, spec)
    with kept_generators():
        seed_all(seed)
        return transform(image)


def pixels_of(tensor: torch.Tensor, spec: ImageSpec = SPEC) -> np.ndarray:
    """Back from a normalised tensor to uint8 [height, width, 3]."""
    mean, std = (np.asarray(values)[:, None, None] for values in (spec.mean, spec.std))
    return np.rint((tensor.double().numpy() * std + mean) * 255).astype(np.uint8).transpose(1, 2, 0)


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, mean=(0.5,) * 3, std=(0.25,) * 3)])
def test_no_variation_is_the_preprocessing_that_engines_get(spec):
    image = picture()
    found = varied(NOTHING, image, 1, spec)
    assert found.dtype == torch.float32
    assert found.shape == (3, 10, 12)
    np.testing.assert_array_equal(found.numpy(), preprocess(image, spec))


def test_no_crop_resizes_an_image_of_another_size():
    image = picture(30, 20)
    np.testing.assert_array_equal(varied(NOTHING, image, 1).numpy(), preprocess(image, SPEC))


@pytest.mark.parametrize("size", [(30, 20), (16, 40), (8, 9), (10, 12)])
def test_no_crop_cuts_the_centre_as_the_test_does_where_the_spec_says_so(size):
    for spec in (replace(SPEC, resize=16), replace(SPEC, resize=12), replace(SPEC, resize=9)):
        image = picture(*size)
        np.testing.assert_array_equal(varied(NOTHING, image, 1, spec).numpy(), preprocess(image, spec))


EVERYTHING = Augmentation(area=(0.2, 1.0), erase=0.5)


@pytest.mark.parametrize(
    "augmentation",
    [EVERYTHING, replace(EVERYTHING, crop="shifted"), replace(EVERYTHING, random_augment="", colour_jitter=0.4)],
    ids=["DeiT", "shifted", "jitter"],
)
def test_the_seed_is_all_the_randomness(augmentation):
    image = picture()
    first = [varied(augmentation, image, seed) for seed in range(12)]
    random.seed(99)
    np.random.seed(99)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        again = [varied(augmentation, image, seed) for seed in range(12)]
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other)
    assert len({one.numpy().tobytes() for one in first}) == 12


def generators() -> tuple[object, ...]:
    """The states of the three, to be compared."""
    name, keys, *rest = np.random.get_state()
    return random.getstate(), (name, keys.tobytes(), *rest), torch.get_rng_state().numpy().tobytes()


def test_the_callers_generators_are_given_back_as_they_were():
    before, transform = generators(), training_transform(EVERYTHING, SPEC)
    drawn_from = set()
    with kept_generators():
        for seed in range(10):
            seed_all(seed)
            seeded = generators()
            transform(picture())
            drawn_from |= {n for n in range(3) if generators()[n] != seeded[n]}
    assert drawn_from == {0, 1, 2}
    assert generators() == before


def test_they_are_given_back_after_an_error_too():
    def fails():
        with kept_generators():
            seed_all(8)
            raise ZeroDivisionError

    before = generators()
    with pytest.raises(ZeroDivisionError):
        fails()
    assert generators() == before


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 - 1])
def test_every_seed_of_an_order_can_be_used(seed):
    with kept_generators():
        seed_all(seed)
        drawn = random.random(), np.random.rand(), torch.rand(1).item()
    with kept_generators():
        seed_all(seed)
        assert (random.random(), np.random.rand(), torch.rand(1).item()) == drawn


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_shifted_moves_the_image_by_up_to_so_many_pixels_and_black_comes_in(shift):
    image = picture()
    augmentation, padded = replace(NOTHING, crop="shifted", shift=shift), np.pad(image, ((shift,) * 2,) * 2 + ((0, 0),))
    ways = {(down, across) for down in range(2 * shift + 1) for across in range(2 * shift + 1)}
    seen = set()
    for seed in range(30 * len(ways)):
        found = pixels_of(varied(augmentation, image, seed))
        fitting = [way for way in ways if np.array_equal(padded[way[0] : way[0] + 10, way[1] : way[1] + 12], found)]
        assert len(fitting) == 1
        seen.add(fitting[0])
        if seen == ways:
            break
    assert seen == ways


@pytest.mark.parametrize(("resize", "black"), [(20, False), (16, False), (12, True)])
def test_where_the_test_cuts_the_centre_a_shift_cuts_beside_it(resize, black):
    """What lies beyond the crop comes in, and black only where there is nothing more."""
    spec, image = replace(SPEC, resize=resize), picture(resize, resize + 6)
    augmentation, shift = replace(NOTHING, crop="shifted", shift=2), 2
    padded = np.pad(np.asarray(image), ((4, 4), (4, 4), (0, 0)))
    top, left = round((resize - 10) / 2) + 4, round((resize + 6 - 12) / 2) + 4
    ways = {(down, across) for down in range(-shift, shift + 1) for across in range(-shift, shift + 1)}
    seen, dark = set(), False
    for seed in range(600):
        found = pixels_of(varied(augmentation, image, seed, spec), spec)
        cuts = {way: padded[top + way[0] :][:10, left + way[1] :][:, :12] for way in ways - seen}
        seen |= {way for way, cut in cuts.items() if np.array_equal(cut, found)}
        dark = dark or not found.any(axis=2).all()
    assert seen == ways
    assert dark == black


def test_resized_cuts_rectangles_of_the_shares_of_area():
    """A picture that tells its columns and rows: how many of them are left is the area."""
    rows, columns = np.indices((200, 200), dtype=np.uint8)
    image = Image.fromarray(np.stack([rows, columns, np.zeros_like(rows)], axis=2))
    spec = ImageSpec(40, 40, (40, 40), "bilinear", mean=(0.0,) * 3, std=(1.0,) * 3)
    shares = []
    for seed in range(300):
        found = 255 * varied(replace(NOTHING, crop="resized", area=(0.1, 0.3)), image, seed, spec).numpy()
        height, width = (np.ptp(found[channel]) * 40 / 39 for channel in (0, 1))  # edges are half a pixel inside
        shares.append(height * width / 200**2)
    assert 0.08 < min(shares) < 0.12
    assert 0.27 < max(shares) < 0.32
    assert np.mean(shares) == pytest.approx(0.2, abs=0.015)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_share_of_mirrored_images(share):
    image, augmentation = picture(), replace(NOTHING, flip=share)
    found = [pixels_of(varied(augmentation, image, seed)) for seed in range(400)]
    plain = np.asarray(image)
    mirrored = [np.array_equal(each, plain[:, ::-1]) for each in found]
    assert all(one or np.array_equal(each, plain) for one, each in zip(mirrored, found, strict=True))
    assert np.mean(mirrored) == pytest.approx(share, abs=0.07)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_share_of_erased_images(share):
    image, augmentation = picture(24, 24), replace(NOTHING, erase=share)
    spec = replace(SPEC, height=24, width=24, resize=(24, 24))
    plain = varied(NOTHING, image, 0, spec)
    erased = 0
    for seed in range(400):
        changed = (varied(augmentation, image, seed, spec) != plain).any(dim=0)
        if bool(changed.any()):
            erased += 1
            rows, columns = changed.any(dim=1), changed.any(dim=0)
            assert torch.equal(changed, rows[:, None] & columns[None, :])  # one rectangle of noise
            assert 0.005 < changed.float().mean() < 0.4
    assert erased / 400 == pytest.approx(share, abs=0.07)


def test_colours_change_only_as_far_as_they_may():
    gray = Image.new("RGB", (12, 10), (100, 100, 100))
    augmentation = replace(NOTHING, colour_jitter=0.3)
    found = [pixels_of(varied(augmentation, gray, seed))[0, 0, 0] for seed in range(200)]
    # Of an even gray image saturation and contrast leave all as it is, brightness does not.
    assert 68 <= min(found) < 80
    assert 120 < max(found) <= 132
    mixed = replace(augmentation, random_augment="rand-m0-p0")
    assert {int(pixels_of(varied(mixed, gray, seed))[0, 0, 0]) for seed in range(20)} == {100}  # only without it


@pytest.mark.parametrize("size", [32, 224])
def test_deits_settings_are_deits_transform(size):
    """What the function ``build_transform`` in datasets.py of facebookresearch/deit calls, with main.py's defaults; up
    to 32 pixels it puts a shifting crop in the place of the first transform.
    """
    theirs = create_transform(
        input_size=size,
        is_training=True,
        color_jitter=0.3,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="bicubic",
        re_prob=0.25,
        re_mode="pixel",
        re_count=1,
    )
    if size <= 32:
        theirs.transforms[0] = transforms.RandomCrop(size, padding=4)
    spec = ImageSpec(size, size, size)
    mine = training_transform(Augmentation("shifted" if size <= 32 else "resized", shift=4), spec)
    compared = 0
    for seed in range(40 if size <= 32 else 8):
        image = picture(size, size, seed) if size <= 32 else picture(150, 240, seed)
        with kept_generators(), suppress(ValueError):  # of timm's Posterize at full strength, see below
            seed_all(seed)
            expected = theirs(image)
            seed_all(seed)
            assert torch.equal(mine(image), expected)
            compared += 1
    assert compared >= (38 if size <= 32 else 8)


def test_the_recipes_interpolation_is_for_the_random_crop_and_the_specs_for_the_others():
    image = picture(40, 40)
    for crop, wanted in (("none", "nearest"), ("resized", "lanczos")):
        augmentation = replace(NOTHING, crop=crop, area=(1.0, 1.0), interpolation="lanczos")
        found = pixels_of(varied(augmentation, image, 0, replace(SPEC, interpolation="nearest")))
        pixels = np.asarray(image.resize((12, 10), Image.Resampling[wanted.upper()]))
        np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize(
    "text",
    ["m9-mstd0.5", "v0", "original", "augmix-m3", "random-m9", "rand-m9.5", "rand-x3", "rand-m", "rand-m9-tnothing"],
)
def test_a_text_for_random_augment_that_is_none(text):
    with pytest.raises(InvalidValue, match=r"augmentation") as caught:
        training_transform(Augmentation(random_augment=text), SPEC)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["rand", "rand-m9-mstd0.5-inc1", "rand-n3-p0.7-mmax40-m30", "rand-mstd101-tweights"])
def test_every_text_that_timm_can_read(text):
    for seed in range(20):
        assert varied(replace(NOTHING, random_augment=text), picture(), seed).shape == (3, 10, 12)


def test_random_augment_at_full_strength():
    """Where Posterize keeps no bits at all, which Pillow refuses since its release 13."""
    augmentation = replace(NOTHING, random_augment="rand-m10-n1-p1-inc1")
    found = [pixels_of(varied(augmentation, picture(), seed)) for seed in range(100)]
    assert any(not image.any() for image in found)
    assert sum(not image.any() for image in found) < 20


def test_normalised_by_the_spec_after_everything_else():
    """Pixels in between are the same for any spec: it only scales them in the end."""
    image = picture(20, 20)
    augmentation = replace(EVERYTHING, random_augment="", erase=0)
    for seed in range(5):
        first, second = (varied(augmentation, image, seed, s) for s in (SPEC, replace(SPEC, mean=(0.5, 0.4, 0.6))))
        np.testing.assert_array_equal(normalise(pixels_of(first)[None], SPEC)[0], first.numpy())
        np.testing.assert_array_equal(pixels_of(first), pixels_of(second, replace(SPEC, mean=(0.5, 0.4, 0.6))))
