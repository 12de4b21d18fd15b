from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from vitlet.bundle.manifest import Images, Manifest, ModelFile, manifest_from_json, manifest_to_bytes
from vitlet.certify.certificate import Certificate
from vitlet.data.imageset import ImageSet, Skipped
from vitlet.errors import InvalidValue
from vitlet.records import Artifact, ImageSpec, TimmArchitecture

CERTIFICATE = Certificate(0.95, 100, 3, 0.08, 90, 2, 1, -0.02, 0.05, 0.1, "pass")


def round_trip(manifest: Manifest) -> Manifest:
    return manifest_from_json(msgspec.json.decode(manifest_to_bytes(manifest)))


def test_round_trip_keeps_every_field_and_raw_sample(manifest: Manifest) -> None:
    full = replace(
        manifest,
        verdicts=("baseline", "faster", "unsupported"),
        seed=7,
        note="kept as timm's own module",
        random_weights=True,
        certificate=CERTIFICATE,
        image_spec=ImageSpec(224, 224, (256, 240), "lanczos", crop_rounding="down"),
    )
    assert round_trip(full) == full
    opaque = replace(full, architecture=TimmArchitecture("swin_tiny", 3, 224, 224, {"img_size": 224, "scale": 0.5}))
    assert round_trip(opaque) == opaque


def test_file_is_readable_by_a_person(manifest: Manifest) -> None:
    text = manifest_to_bytes(manifest).decode("utf-8")
    assert text.endswith("}\n")
    assert '\n "reference": "deit_small_patch16_224",\n' in text
    assert "Ente 🦆" in text


def test_model_file_of_an_artifact(artifact: Artifact) -> None:
    found = ModelFile.of(artifact)
    assert (found.file, found.engine, str(found.precision)) == ("model.pt", "torchscript", "int8-dynamic-x86")
    assert ModelFile.of(replace(artifact, path=Path("/tmp/x/lite-fp32.ptl"))).file == "model.ptl"


def test_images_of_a_set_and_of_none() -> None:
    skipped = tuple(Skipped(f"{i}.txt", "no image") for i in range(1000))
    images = ImageSet(Path("x.npy"), ImageSpec(2, 2, 2), ("a", "b", "c"), (0, -1, 2), skipped, note="n", digest="d")
    found = Images.of(images)
    assert (found.count, found.labelled, found.skipped_count, found.note, found.digest) == (3, 2, 1000, "n", "d")
    assert found.skipped == skipped[:200]
    assert Images.of(None) == Images(0, 0)


def test_more_labels_than_any_model_has(manifest: Manifest) -> None:
    count = 1_000_001
    with pytest.raises(InvalidValue, match="1000001 labels are more than 1000000"):
        replace(
            manifest,
            labels=("x",) * count,
            architecture=TimmArchitecture("swin_tiny", count, 224, 224),
            model=replace(manifest.model, classes=count),
        )


def test_one_verdict_for_each_measurement(manifest: Manifest) -> None:
    with pytest.raises(InvalidValue, match="1 verdicts on 3 measurements"):
        replace(manifest, verdicts=("faster",))
