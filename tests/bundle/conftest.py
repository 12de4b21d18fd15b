from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from vitlet.bundle.manifest import Manifest, ModelFile, Recipe
from vitlet.bundle.read import Bundle
from vitlet.bundle.write import write_bundle
from vitlet.records import Artifact, Classifier, ImageSpec, Measurement, Precision, VitArchitecture

PAGES = {"report.html": "<!doctype html><title>r</title>"}


@pytest.fixture
def written(tmp_path: Path, manifest: Manifest, artifact: Artifact) -> Bundle:
    """A good bundle at ``tmp_path/out/deit.vitlet``, alone in its folder."""
    (tmp_path / "out").mkdir()
    return write_bundle(tmp_path / "out" / "deit.vitlet", manifest, artifact, PAGES)


@pytest.fixture
def rewrite(written: Bundle) -> Callable[..., Bundle]:
    """Write the good bundle again, elsewhere or with another manifest."""

    def again(path: Path, *, overwrite: bool = False, **changes: object) -> Bundle:
        return write_bundle(path, replace(written.manifest, **changes), written.artifact, PAGES, overwrite=overwrite)

    return again


#: Small enough to be run in a moment, large enough that each filter and crop gives other pixels.
SPEC = ImageSpec(64, 64, 73, "bicubic")


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole bundle of a tiny ViT in int8 for ONNX Runtime, with the original's logits and two measured images."""
    pytest.importorskip("onnxruntime")
    import torch

    from vitlet.engines import engine
    from vitlet.models.build import build

    scratch = tmp_path_factory.mktemp("sound")
    architecture = VitArchitecture(64, 64, 16, 64, 2, 2, 128, 5)
    module = build(architecture, seed=3)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.startswith("head"):
                parameter.normal_(generator=torch.Generator().manual_seed(1))
    labels = ("cat", "dog", "cow", "hen", "pig")
    classifier = Classifier(module, architecture, SPEC, labels, "tiny", "timm")
    original = engine("torch").export(classifier, Precision("fp32"), scratch / "original")
    small = engine("onnxruntime").export(classifier, Precision("int8-dynamic"), scratch / "small")
    return write_tested(scratch, classifier, [original, small], 1)


def write_tested(scratch: Path, classifier: Classifier, exported: list[Artifact], chosen: int) -> Path:
    """Write the bundle of ``exported[chosen]`` as ``compress`` does, the original model being the first."""
    from vitlet.bundle.golden import golden_pictures, with_golden
    from vitlet.data.load import load_images
    from vitlet.measure.environment import environment
    from vitlet.measure.run import answers

    photos = scratch / "photos"
    photos.mkdir()
    for number in range(2):
        Image.effect_mandelbrot((150 + number, 110), (-2, -1.5, 1, 1.5 + number), 90).convert("RGB").rotate(20).save(
            photos / f"{number}.jpg"
        )
    images = load_images([str(photos)], classifier.image_spec, classifier.labels, scratch / "images", keep=4)
    manifest = Manifest(
        vitlet_version="0.1.0",
        created="2026-10-01T12:00:00+00:00",
        reference="tiny",
        library="timm",
        random_weights=False,
        architecture=classifier.architecture,
        image_spec=classifier.image_spec,
        labels=classifier.labels,
        recipe=Recipe("vitlet compress tiny", exported[chosen].engine, str(exported[chosen].precision), 1),
        model=ModelFile.of(exported[chosen]),
        environment=environment(1),
        measurements=tuple(
            Measurement(one.engine, str(one.precision), "ok", latency_samples_ms=((5000.0,) * 9, (5001.0,) * 9))
            for one in exported
        ),
        chosen=chosen,
        baseline=0,
        sentences=("It is best here.",),
    )
    golden = golden_pictures(images, 3, classifier.image_spec, scratch)
    (mine,), (original,) = (answers(exported[place], [golden.images], 1, scratch) for place in (chosen, 0))
    manifest, parts = with_golden(manifest, golden, mine, original if chosen else None)
    return write_bundle(scratch / "tested.bundle", manifest, exported[chosen], {**PAGES, **parts}).path


@pytest.fixture
def tested(sound: Path, tmp_path: Path) -> Path:
    """A copy of the whole bundle, to be damaged."""
    copy = tmp_path / "tested.bundle"
    shutil.copytree(sound, copy)
    return copy
