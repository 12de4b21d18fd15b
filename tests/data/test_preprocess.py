"""The pixels that a model gets, held to the libraries that the models come from."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform, resolve_data_config

from vitlet.data.image_spec import spec_from_hf, spec_from_timm
from vitlet.data.preprocess import MAX_RESIZED_PIXELS, crop_pixels, normalise, preprocess
from vitlet.errors import InvalidValue, UnreadableImage
from vitlet.records import ImageSpec

with warnings.catch_warnings():
    # Importing transformers warns about deprecations inside it and its own dependencies.
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", FutureWarning)
    from transformers import BitImageProcessor, ConvNextImageProcessor, DeiTImageProcessor, ViTImageProcessor
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
    from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
edges = st.integers(1, 260)
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def by_timm(image: Image.Image, cfg: Mapping[str, Any]) -> np.ndarray:
    transform = create_transform(**resolve_data_config(pretrained_cfg=dict(cfg)), is_training=False)
    result: np.ndarray = transform(image).numpy()
    return result


def assert_identical(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.dtype == theirs.dtype == np.float32
    np.testing.assert_array_equal(ours, theirs, strict=True)


@many
@given(
    width=edges,
    height=edges,
    size=st.integers(8, 100),
    crop=st.sampled_from([0.5, 0.8, 0.875, 0.9, 0.95, 0.96, 0.985, 1.0, 1.15]),
    mode=st.sampled_from(["center", "squash"]),
    interpolation=st.sampled_from(INTERPOLATIONS),
)
def test_equals_timm_bit_for_bit(
    width: int, height: int, size: int, crop: float, mode: str, interpolation: str
) -> None:
    cfg = {
        "input_size": (3, size, size),
        "crop_pct": crop,
        "crop_mode": mode,
        "interpolation": interpolation,
        "mean": (0.48, 0.46, 0.41),
        "std": (0.27, 0.26, 0.28),
    }
    image = noise(width, height)
    assert_identical(preprocess(image, spec_from_timm(cfg)), by_timm(image, cfg))


@many
@given(width=edges, height=edges, size=st.tuples(edges, edges), crop=st.sampled_from([0.7, 0.9, 1.0, 1.3]))
def test_equals_timm_bit_for_bit_on_squashed_rectangles(
    width: int, height: int, size: tuple[int, int], crop: float
) -> None:
    assume(min(size) / crop >= 1)  # timm itself fails to resize to 0 pixels
    cfg = {"input_size": (3, *size), "crop_pct": crop, "crop_mode": "squash", "interpolation": "bilinear"}
    image = noise(width, height)
    assert_identical(preprocess(image, spec_from_timm(cfg)), by_timm(image, cfg))


@pytest.mark.parametrize(
    "name",
    [
        "vit_base_patch16_224.augreg_in21k_ft_in1k",
        "vit_base_patch32_384.augreg_in21k_ft_in1k",
        "deit_base_patch16_224.fb_in1k",
        "deit_base_distilled_patch16_384.fb_in1k",
        "vit_base_patch14_dinov2.lvd142m",
        "vit_base_patch14_reg4_dinov2.lvd142m",
        "vit_base_patch16_clip_224.openai_ft_in1k",
        "eva02_base_patch14_448.mim_in22k_ft_in1k",
        "swin_tiny_patch4_window7_224.ms_in1k",
        "tiny_vit_5m_224.dist_in22k_ft_in1k",
        "regnety_016.tv2_in1k",
    ],
)
@pytest.mark.parametrize("shape", [(500, 333), (333, 500), (259, 256), (100, 80)])
def test_equals_timm_for_its_published_models(name: str, shape: tuple[int, int]) -> None:
    cfg = timm.get_pretrained_cfg(name).to_dict()
    image = noise(*shape)
    assert_identical(preprocess(image, spec_from_timm(cfg)), by_timm(image, cfg))


PIL_PROCESSORS = {
    "vit": (ViTImageProcessorPil, {"size": {"height": 48, "width": 64}, "resample": 2}),
    "vit-int-size": (ViTImageProcessorPil, {"size": 48, "resample": 3, "image_mean": [0.5, 0.4, 0.3]}),
    "vit-cropped": (ViTImageProcessorPil, {"size": 48, "do_center_crop": True, "crop_size": 45}),
    "vit-raw": (ViTImageProcessorPil, {"size": 48, "do_normalize": False}),
    "deit": (DeiTImageProcessorPil, {"size": {"height": 56, "width": 56}, "crop_size": {"height": 49, "width": 49}}),
    "deit-padded": (DeiTImageProcessorPil, {"size": 40, "crop_size": 49}),
    "dinov2": (
        BitImageProcessorPil,
        {"size": {"shortest_edge": 64}, "crop_size": {"height": 56, "width": 56}, "image_mean": [0.485, 0.456, 0.406]},
    ),
    "dinov2-odd": (BitImageProcessorPil, {"size": {"shortest_edge": 63}, "crop_size": {"height": 56, "width": 50}}),
    "dinov2-padded": (BitImageProcessorPil, {"size": {"shortest_edge": 41}, "crop_size": {"height": 56, "width": 60}}),
    "convnext": (ConvNextImageProcessorPil, {"size": {"shortest_edge": 50}, "crop_pct": 0.9}),
    "convnext-384": (ConvNextImageProcessorPil, {"size": {"shortest_edge": 384}}),
}


@pytest.mark.parametrize("case", PIL_PROCESSORS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(width=edges, height=edges, seed=st.integers(0, 100))
def test_equals_transformers_pil_processors_bit_for_bit(case: str, width: int, height: int, seed: int) -> None:
    kind, options = PIL_PROCESSORS[case]
    processor = kind(**options)
    spec = spec_from_hf(json.loads(processor.to_json_string()), default_size=48)
    image = noise(width, height, seed)
    theirs = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
    assert_identical(preprocess(image, spec), theirs)


@pytest.mark.parametrize("factor", [1 / 127.5, 1 / 200])
@pytest.mark.parametrize("normalised", [True, False])
def test_other_rescale_factors_agree_within_rounding(factor: float, normalised: bool) -> None:
    # Folding the factor into mean and std rounds at another place: 1e-6 of values around 1.
    processor = ViTImageProcessorPil(size=32, rescale_factor=factor, do_normalize=normalised)
    spec = spec_from_hf(processor.to_dict(), default_size=32)
    image = noise(70, 50)
    theirs = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
    np.testing.assert_allclose(preprocess(image, spec), theirs, rtol=1e-6, atol=2e-6)


def test_a_processor_without_rescaling_agrees_within_rounding() -> None:
    processor = ViTImageProcessorPil(size=32, do_rescale=False, image_mean=[120, 130, 140], image_std=[50, 60, 70])
    spec = spec_from_hf(processor.to_dict(), default_size=32)
    image = noise(70, 50)
    theirs = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
    np.testing.assert_allclose(preprocess(image, spec), theirs, rtol=1e-6, atol=2e-6)


TORCHVISION_PROCESSORS = {
    # (processor, the most levels of 255 that one byte may be apart)
    "vit": (ViTImageProcessor(), 1),
    "deit": (DeiTImageProcessor(), 20),
    "dinov2": (BitImageProcessor(size={"shortest_edge": 256}), 20),
    "convnext": (ConvNextImageProcessor(size={"shortest_edge": 224}), 20),
}


@pytest.mark.parametrize("case", TORCHVISION_PROCESSORS)
@pytest.mark.parametrize("shape", [(640, 480), (300, 451), (90, 120)])
@pytest.mark.parametrize("photograph", ["astronaut", "coffee", "chelsea"])
def test_is_near_the_torchvision_backed_processors(case: str, shape: tuple[int, int], photograph: str) -> None:
    """They resample with other code (see the module's docstring): near is all that can be had. What is
    measured here is what that docstring states.
    """
    import skimage.data

    processor, levels = TORCHVISION_PROCESSORS[case]
    assert processor.backend == "torchvision"
    spec = spec_from_hf(processor.to_dict(), default_size=224)
    image = Image.fromarray(getattr(skimage.data, photograph)()).resize(shape)
    theirs = processor(image, return_tensors="pt")["pixel_values"][0].numpy()
    apart = np.abs(preprocess(image, spec) - theirs) * 255 * np.asarray(spec.std)[:, None, None]
    assert apart.max() <= levels + 0.001
    assert apart.mean() < 0.2


def test_normalise_is_contiguous_float32_and_leaves_the_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    before = pixels.copy()
    spec = ImageSpec(5, 7, (5, 7), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    images = normalise(pixels, spec)
    assert images.dtype == np.float32
    assert images.shape == (2, 3, 5, 7)
    assert images.flags.c_contiguous
    np.testing.assert_array_equal(pixels, before)
    expected = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).numpy()
    for channel in range(3):
        exact = (expected[:, channel] - np.float32(spec.mean[channel])) / np.float32(spec.std[channel])
        np.testing.assert_array_equal(images[:, channel], exact)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 3, 4, 4), np.uint8), np.zeros((4, 4, 3), np.uint8), np.zeros((2, 4, 4, 3), np.float32)],
)
def test_normalise_refuses_other_arrays(pixels: np.ndarray) -> None:
    with pytest.raises(InvalidValue, match=r"must be uint8 \[n, height, width, 3\]"):
        normalise(pixels, ImageSpec(4, 4, 4))


def test_crop_pixels_refuses_other_modes() -> None:
    with pytest.raises(InvalidValue, match="mode 'L'"):
        crop_pixels(Image.new("L", (4, 4)), ImageSpec(4, 4, 4))


def test_a_very_thin_image_is_refused_before_memory_is_used() -> None:
    image = Image.new("RGB", (1, 60_000))
    assert MAX_RESIZED_PIXELS < 256 * 256 * 60_000
    with pytest.raises(UnreadableImage, match="1 x 60000 pixels is too long and thin"):
        crop_pixels(image, ImageSpec(224, 224, 256))


def test_importing_it_imports_no_library(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, vitlet.data.load, vitlet.data.image_spec, vitlet.data.samples\n"
        "heavy = {'torch', 'timm', 'transformers', 'torchvision', 'PIL', 'httpx'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
