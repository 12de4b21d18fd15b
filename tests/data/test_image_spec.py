"""Reading an ImageSpec from what timm and transformers store (that it gives their pixels: test_preprocess)."""

from __future__ import annotations

from typing import Any

import pytest

from vitlet.data.image_spec import spec_from_hf, spec_from_timm
from vitlet.errors import InvalidValue, Unsupported, VitletError
from vitlet.records import ImageSpec, from_json, to_json

HALF = (0.5, 0.5, 0.5)


def test_timm_defaults_stand_in_for_what_is_missing() -> None:
    assert spec_from_timm({}) == ImageSpec(224, 224, 256)
    empty = dict.fromkeys(("input_size", "crop_pct", "crop_mode", "interpolation", "mean", "std"))
    assert spec_from_timm(empty) == ImageSpec(224, 224, 256)


def test_timm_scale_is_rounded_down() -> None:
    assert spec_from_timm({"input_size": (3, 224, 224), "crop_pct": 0.9}).resize == 248  # 248.9
    assert spec_from_timm({"input_size": [3, 240, 240], "crop_pct": 0.95, "crop_mode": "squash"}).resize == (252, 252)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"crop_mode": "border"}, "crop mode 'border' is not supported; only 'center' and 'squash'"),
        ({"crop_mode": "diagonal"}, "crop mode 'diagonal'"),
        ({"input_size": (3, 256, 128)}, "square inputs only, not for 256 x 128"),
        ({"input_size": (1, 28, 28)}, "takes 1 channels"),
        ({"interpolation": "random"}, "interpolation 'random' is not supported; known are: nearest"),
    ],
)
def test_timm_settings_that_are_not_supported(cfg: dict[str, Any], message: str) -> None:
    with pytest.raises(Unsupported, match=message):
        spec_from_timm(cfg)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"input_size": 224}, "input_size is 224; it must be 3 whole numbers"),
        ({"input_size": (3, 224.0, 224.0)}, "it must be 3 whole numbers"),
        ({"input_size": (3, 0, 0)}, "it must be 1 to 8192"),
        ({"crop_pct": "0.9"}, "crop_pct is '0.9'; it must be a number"),
        ({"crop_pct": -1}, "crop_pct is -1.0; it must be above 0"),
        ({"mean": (0.5, 0.5)}, "mean is .* 3 numbers, one per RGB channel"),
        ({"std": (0.5, 0.5, 0.0)}, "must be above 0"),
        ({"std": (0.5, 0.5, float("nan"))}, "std is nan; it must be a number"),
    ],
)
def test_timm_values_that_make_no_sense(cfg: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        spec_from_timm(cfg)


# As they lie on the Hugging Face hub: google/vit-base-patch16-224 (which names no type),
# facebook/deit-base-distilled-patch16-224 and facebook/dinov2-base.
GOOGLE_VIT = {"do_normalize": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 224}
FACEBOOK_DEIT = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "DeiTFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": 256,
}
FACEBOOK_DINOV2 = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "BitImageProcessor",
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 256},
}


@pytest.mark.parametrize(
    ("processor", "spec"),
    [
        (GOOGLE_VIT, ImageSpec(224, 224, (224, 224), "bilinear", HALF, HALF, "down")),
        (FACEBOOK_DEIT, ImageSpec(224, 224, (256, 256), crop_rounding="down")),
        (FACEBOOK_DINOV2, ImageSpec(224, 224, 256, crop_rounding="down")),
        ({"image_processor": FACEBOOK_DINOV2}, ImageSpec(224, 224, 256, crop_rounding="down")),
        (
            {"image_processor_type": "ViTImageProcessorFast", "size": {"height": 30, "width": 40}, "resample": 3},
            ImageSpec(30, 40, (30, 40), "bicubic", HALF, HALF, "down"),
        ),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": 0.875},
            ImageSpec(224, 224, 256, "bicubic", HALF, HALF, "down"),
        ),
    ],
)
def test_processor_files_of_the_hub(processor: dict[str, Any], spec: ImageSpec) -> None:
    assert spec_from_hf(processor, default_size=224) == spec


def test_the_spec_goes_through_json() -> None:
    spec = spec_from_hf(FACEBOOK_DEIT, default_size=224)
    assert from_json(to_json(spec), ImageSpec) == spec


def test_a_file_without_size_takes_the_models_own() -> None:
    assert spec_from_hf({}, default_size=384).resize == (384, 384)
    assert spec_from_hf({"do_resize": False}, default_size=(28, 32)).resize == (28, 32)


def test_a_file_without_type_follows_the_model_type() -> None:
    assert spec_from_hf({}, default_size=224, model_type="deit").resize == (256, 256)
    assert spec_from_hf({}, default_size=224, model_type="dinov2").resize == 224
    assert spec_from_hf({}, default_size=224, model_type="vit").resize == (224, 224)
    with pytest.raises(Unsupported, match="model type 'beit' is not known"):
        spec_from_hf({}, default_size=224, model_type="beit")


def test_switched_off_steps_become_mean_and_std() -> None:
    raw = spec_from_hf({"do_normalize": False}, default_size=8)
    assert (raw.mean, raw.std) == ((0, 0, 0), (1, 1, 1))
    bytes_wanted = spec_from_hf({"do_normalize": False, "do_rescale": False}, default_size=8)
    assert bytes_wanted.std == pytest.approx((1 / 255,) * 3)
    one_for_all = spec_from_hf({"image_mean": 0.25, "image_std": 0.5}, default_size=8)
    assert one_for_all.mean == (0.25,) * 3


VIT = {"image_processor_type": "ViTImageProcessor"}
CONVNEXT = {"image_processor_type": "ConvNextImageProcessor"}


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        ({"image_processor_type": "SamImageProcessor"}, "'SamImageProcessor' is not supported; known are: ViTImage"),
        ({"image_processor_type": 3}, "image processor 3 is not supported"),
        (VIT | {"size": {"shortest_edge": 224}}, "without a centre crop gives images of no fixed size"),
        (VIT | {"size": {"shortest_edge": 9, "longest_edge": 20}}, "size .* is not supported; known are height"),
        (VIT | {"do_resize": False, "do_center_crop": True}, "crops without resizing"),
        (VIT | {"do_center_crop": True, "crop_size": {"shortest_edge": 9}}, "crop_size with a shortest edge"),
        (VIT | {"do_center_crop": True}, "no size to resize to before the crop of 224 x 224"),
        (VIT | {"resample": 9}, "interpolation 9 is not supported"),
        (CONVNEXT | {"do_resize": False}, "ConvNext processor with do_resize off"),
        (CONVNEXT | {"size": {"height": 9, "width": 9}}, "needs a size with a shortest edge"),
    ],
)
def test_processors_that_are_not_supported(processor: dict[str, Any], message: str) -> None:
    with pytest.raises(Unsupported, match=message):
        spec_from_hf(processor, default_size=224)


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        ({"image_processor": [1]}, "must be an object"),
        (VIT | {"size": "big"}, "size is 'big'; it must be 2 whole numbers"),
        (VIT | {"size": [224]}, "size is .* it must be 2 whole numbers"),
        (VIT | {"size": {"height": "a", "width": 2}}, "it must be 2 whole numbers"),
        (VIT | {"size": 0}, "it must be 1 to 8192"),
        (VIT | {"rescale_factor": 0}, "rescale_factor is 0.0; it must be above 0"),
        (VIT | {"image_mean": "gray"}, "image_mean is 'gray'"),
        (CONVNEXT | {"size": 224, "crop_pct": 0}, "crop_pct is 0.0; it must be above 0"),
    ],
)
def test_processor_values_that_make_no_sense(processor: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        spec_from_hf(processor, default_size=224)


def test_every_refusal_is_vitlets_own() -> None:
    for value in (None, True, -1, 1.5, "x", [], [1, 2, 3, 4], {"a": 1}):
        for key in ("size", "crop_size", "resample", "rescale_factor", "image_mean", "image_std", "crop_pct"):
            for kind in ("ViT", "DeiT", "Bit", "ConvNext"):
                processor = {"image_processor_type": f"{kind}ImageProcessor", key: value}
                try:
                    spec_from_hf(processor, default_size=224)
                except VitletError:
                    continue
