"""What every bundle brings along is held to vitlet itself: the same pixels, and the same answers from each runtime."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from vitlet.bundle.shipped import preprocess, runtime
from vitlet.data.preprocess import preprocess as by_vitlet
from vitlet.data.read import read_image
from vitlet.errors import InvalidValue
from vitlet.records import ImageSpec, to_json

edges = st.integers(1, 90)
filters = st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"])
channels = st.tuples(*[st.floats(0.01, 2, allow_nan=False)] * 3)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    size=st.tuples(edges, edges),
    crop=st.tuples(edges, edges),
    resize=st.one_of(edges, st.tuples(edges, edges)),
    interpolation=filters,
    mean=channels,
    std=channels,
    rounding=st.sampled_from(["even", "down"]),
)
def test_prepares_as_vitlet_does_bit_for_bit(size, crop, resize, interpolation, mean, std, rounding) -> None:
    assume(min(size) >= max(size) / 30)
    spec = ImageSpec(*crop, resize, interpolation, mean, std, rounding)
    image = noise(*size)
    found = preprocess.to_input(image, preprocess.checked_spec(to_json(spec)))
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, by_vitlet(image, spec)[None])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM"])
def test_reads_as_vitlet_does(kind: str, tmp_path: Path) -> None:
    values = np.asarray(noise(40, 30).convert("L")).astype(np.uint16) * 200
    deep = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    read = 0
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", *deep):
        image = Image.fromarray(values.astype(deep[mode])) if mode in deep else noise(40, 30).convert(mode)
        for orientation in (1, 3, 6, 7):
            exif = Image.Exif()
            exif[ExifTags.Base.Orientation] = orientation
            try:
                content = encoded(image, kind, exif=exif)
            except (OSError, ValueError):  # Pillow does not write everything as everything
                continue
            right = np.asarray(read_image(content, "it"))
            (tmp_path / "image").write_bytes(content)
            for given_as in (content, tmp_path / "image", str(tmp_path / "image")):
                np.testing.assert_array_equal(np.asarray(preprocess.read(given_as)), right)
            read += 1
    assert read >= 8


def test_a_transparent_palette(tmp_path: Path) -> None:
    content = encoded(noise(20, 20).quantize(32), "PNG", transparency=3)
    np.testing.assert_array_equal(np.asarray(preprocess.read(content)), np.asarray(read_image(content, "it")))


@pytest.mark.parametrize(
    "content", [b"", b"no image", encoded(noise(9, 9), "PNG")[:60], encoded(noise(99, 99), "JPEG")[:900]]
)
def test_what_is_no_image_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"is no image of a known kind|is damaged"):
        preprocess.read(content)


@pytest.mark.parametrize(
    "change",
    [{"height": 0}, {"resize": 10**6}, {"resize": [3]}, {"mean": [0, 1]}, {"std": [1, 1, 0]}, {"std": ["a"] * 3},
     {"interpolation": "cubic"}, {"crop_rounding": "up"}, {"width": True}, {"mean": [float("nan")] * 3}],
)  # fmt: skip
def test_a_spec_that_cannot_be_followed(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"image_spec.{next(iter(change))} is"):
        preprocess.checked_spec(to_json(ImageSpec(8, 8, 8)) | change)


# Every runtime


def test_a_bundle_is_an_application_in_three_lines(tested: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    monkeypatch.syspath_prepend(tested)
    try:
        load = importlib.import_module("preprocess").load
        model = importlib.import_module("runtime").open_model()
        logits = model(load(tested / "golden-card.png"))
    finally:
        import sys

        for name in ("preprocess", "runtime"):
            sys.modules.pop(name, None)
    np.testing.assert_allclose(logits[0], np.load(tested / "golden-logits.npy")[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("engine_name", "precision"),
    [("onnxruntime", "int8-dynamic"), ("openvino", "fp32"), ("openvino", "int8-static"), ("litert", "fp32"),
     ("executorch", "fp32"), ("torchscript", "fp32"), ("torchscript", "int8-dynamic-x86"),
     ("mobile", "int8-dynamic-qnnpack"), ("lite", "fp32"), pytest.param("inductor", "fp32", marks=pytest.mark.slow)],
)  # fmt: skip
def test_each_runtime_answers_without_vitlet_as_with_it(engine_name: str, precision: str, tmp_path: Path) -> None:
    """In a process of its own each, as the runtimes share what is process-wide."""
    import json
    import subprocess
    import sys

    from vitlet.bundle.manifest import ModelFile
    from vitlet.engines import engine
    from vitlet.engines.variants import export_one, variants
    from vitlet.errors import VitletError
    from vitlet.models.build import build
    from vitlet.records import Classifier, VitArchitecture

    assert engine_name in runtime.OPENERS
    if not engine(engine_name).available().ok:
        pytest.skip(engine(engine_name).available().reason)
    architecture = VitArchitecture(32, 32, 8, 64, 2, 2, 128, 5)
    spec = ImageSpec(32, 32, 32)
    classifier = Classifier(build(architecture, seed=3), architecture, spec, tuple("abcde"), "tiny", "timm")
    try:
        (variant,) = variants([engine_name], [precision])
    except InvalidValue:
        pytest.skip(f"{engine_name} has no {precision}")
    from vitlet.data.calibration import Calibration

    try:
        artifact = export_one(
            classifier, variant, tmp_path / "model", calibration=Calibration(spec, random_count=4, seed=1)
        )
    except VitletError as error:
        pytest.skip(str(error))
    session = engine(engine_name).open(artifact, threads=1)
    images = np.random.default_rng(0).standard_normal((1, 3, 32, 32), dtype=np.float32)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "right.npy", session.run(images))
    session.close()
    manifest = {
        "vitlet_version": "0.1.0", "recipe": {"threads": 1}, "environment": {"packages": {}},
        "model": to_json(ModelFile.of(artifact)),
    }  # fmt: skip
    for file, name in zip(artifact.files, ModelFile.of(artifact).names, strict=True):
        file.rename(tmp_path / name) if file.name != name else None
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "runtime.py").write_bytes(Path(runtime.__file__).read_bytes())
    code = (
        "import sys; sys.modules['vitlet'] = None\n"
        "import numpy as np, runtime\n"
        "found = runtime.open_model()(np.load('images.npy'))\n"
        "right = np.load('right.npy')\n"
        "assert found.shape == right.shape and found.dtype == right.dtype\n"
        "apart = np.linalg.norm(found - right) / np.linalg.norm(right)\n"
        "assert apart < 1e-5, apart\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
