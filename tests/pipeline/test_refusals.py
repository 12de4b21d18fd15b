"""What does not go together is refused before the work begins, in a sentence that says what to leave out."""

from __future__ import annotations

from pathlib import Path

import pytest

import vitlet
from vitlet.bundle.manifest import Manifest
from vitlet.bundle.read import Bundle
from vitlet.bundle.write import write_bundle
from vitlet.errors import InvalidValue
from vitlet.records import Artifact

MADE = ["none"]


@pytest.fixture
def bundle(manifest: Manifest, artifact: Artifact, tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "some.vitlet", manifest, artifact, {})


def test_made_images_judge_nothing(tmp_path: Path, bundle: Bundle) -> None:
    out = tmp_path / "out"
    for refused in (
        lambda: vitlet.compress("bundled", out=out, data=MADE, max_drop=0.01),
        lambda: vitlet.evaluate("bundled", data=MADE, engine_name="onnxruntime", max_drop=0.01),
        lambda: vitlet.compare(bundle, bundle, data=MADE, max_drop=0.01),
    ):
        with pytest.raises(InvalidValue, match="nothing can be said about a drop of accuracy; leave out --max-drop"):
            refused()
    with pytest.raises(InvalidValue, match="images that vitlet makes judge nothing"):
        vitlet.compress("bundled", out=out, certify_data=MADE)
    found = vitlet.evaluate("bundled", data=MADE, engine_name="onnxruntime", precision_name="fp32", limit=4)
    assert found.certificate is None
    assert found.measurement.agreement == 1
    assert not out.exists()


def test_random_weights_have_nothing_to_lose(tmp_path: Path) -> None:
    model = vitlet.load("deit_tiny_patch16_224", random_weights=True)
    for options in ({"max_drop": 0.01}, {"certify_data": [tmp_path]}):
        with pytest.raises(InvalidValue, match="random weights have no accuracy to lose"):
            vitlet.compress(model, out=tmp_path / "out", **options)


def test_all_variants_take_the_time_they_take(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="leave out --time-limit"):
        vitlet.compress("bundled", out=tmp_path / "out", exhaustive=True, time_limit_s=60)


def test_nothing_is_made_of_a_bundle(tmp_path: Path, bundle: Bundle) -> None:
    with pytest.raises(InvalidValue, match="compressed already; compress its origin: deit_small_patch16_224"):
        vitlet.compress(bundle.path, out=tmp_path / "out", data=[tmp_path])
    with pytest.raises(InvalidValue, match="cannot be looked into; inspect its origin: deit_small_patch16_224"):
        vitlet.inspect(bundle.path, data=[tmp_path])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"engine_names": ["openvino"]}, "--engines"),
        ({"precision_names": ["fp32"], "calibration": ["photos"]}, "--precisions, --calibration"),
        ({"random_weights": True}, "--random-weights"),
        ({"device": "cuda"}, "--device"),
    ],
)
def test_a_bundles_file_is_measured_as_it_is(bundle: Bundle, options: dict, named: str) -> None:
    with pytest.raises(InvalidValue, match=f"whose file is taken as it is; leave out {named}$"):
        vitlet.bench(bundle.path, **options)


def test_and_judged_as_it_is(bundle: Bundle) -> None:
    with pytest.raises(InvalidValue, match=r"leave out --engine and --precision$"):
        vitlet.evaluate(bundle, engine_name="onnxruntime")
    with pytest.raises(InvalidValue, match=r"leave out --calibration$"):
        vitlet.evaluate(bundle, calibration=["photos"])
