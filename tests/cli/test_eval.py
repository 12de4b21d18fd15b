"""``vitlet eval``: accuracy through the exported file, and where the damage lies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def evaluated(vitlet, few_images):
    finished = vitlet(
        "eval", "bundled", "--data", few_images, "--engine", "onnxruntime", "--precision", "int8-dynamic",
        "--json", "-",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    return finished, json.loads(finished.stdout)


def test_accuracy_confidence_and_classes(evaluated):
    finished, document = evaluated
    (row,) = document["rows"]
    assert (row["engine"], row["precision"]) == ("onnxruntime", "int8-dynamic")
    assert 0 < row["logits_error"] < 0.1  # against the model's own in fp32
    assert f"top-1 {100 * row['top1']:.2f} %" in " ".join(finished.stderr.split())
    assert "calibration error" in finished.stderr
    assert sum(entry["images"] for entry in document["classes"]) == row["labelled_images"]
    assert sum(entry["right"] for entry in document["classes"]) == round(row["top1"] * row["labelled_images"])
    assert document["standard"] == "torch fp32"


def test_changed_images_are_as_many_as_agreement_says(evaluated):
    _, document = evaluated
    (row,) = document["rows"]
    assert len(document["changed"]) == round((1 - row["agreement"]) * row["images"])


def test_another_model_shows_every_change(vitlet, few_images):
    finished = vitlet(
        "eval", "bundled", "--data", few_images, "--engine", "onnxruntime", "--against", "bundled", "--json", "-"
    )
    document = json.loads(finished.stdout)
    assert (document["changed"], document["standard"]) == ([], "torch fp32")
    assert "No class has another number of right answers." in finished.stderr


def test_a_standard_sees_the_images_as_it_wants_them(few_images, tmp_path):
    """The same weights behind another normalisation answer otherwise; and other classes are refused."""
    from dataclasses import replace

    import vitlet
    from vitlet.errors import InvalidValue

    model = vitlet.load("bundled")
    other = replace(model, image_spec=replace(model.image_spec, mean=(0.9, 0.9, 0.9)), reference="other")
    found = vitlet.evaluate(model, data=[few_images], against=other)
    alone = vitlet.evaluate(other, data=[few_images])
    assert found.standard == "other"
    assert found.measurement.logits_error > 0.01
    assert sum(one.standard_right for one in found.classes) == sum(one.right for one in alone.classes)
    renamed = replace(model, labels=tuple(f"class {i}" for i in range(10)), reference="renamed")
    with pytest.raises(InvalidValue, match="renamed has other classes than bundled"):
        vitlet.evaluate(model, data=[few_images], against=renamed)


def test_models_that_cannot_be_compared_are_refused(vitlet, few_images, tmp_path):
    finished = vitlet("eval", "bundled", "--data", few_images, "--against", tmp_path / "nothing")
    assert finished.returncode == 1
    assert "nothing" in finished.stderr
    assert "Traceback" not in finished.stderr


INT8 = ("--engine", "onnxruntime", "--precision", "int8-dynamic")


def test_few_images_decide_nothing(vitlet, few_images):
    """And the command says so, in words, in its exit code and in the document."""
    finished = vitlet("eval", "bundled", "--data", few_images, *INT8, "--max-drop", "0.5", "--json", "-")
    assert finished.returncode == 4
    told = " ".join(finished.stderr.split())
    assert "Against torch fp32: INCONCLUSIVE: top-1 changes by -" in told
    assert "more images would decide" in told
    found = json.loads(finished.stdout)["certificate"]
    assert (found["outcome"], found["limit"], found["confidence"]) == ("inconclusive", 0.005, 0.95)
    assert found["more_images"] > 100


def test_a_generous_limit_is_kept(vitlet, few_images):
    finished = vitlet(
        "eval", "bundled", "--data", few_images, *INT8, "--max-drop", "50", "--confidence", "0.99", "--json", "-"
    )
    assert finished.returncode == 0, finished.stderr
    assert "PASS: with 99 % confidence top-1 drops by at most" in " ".join(finished.stderr.split())


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> Path:
    """The scales of an early norm doubled and their sign turned: still a model, but no longer the bundled one."""
    import torch

    from vitlet import load
    from vitlet.models.checkpoint import save_checkpoint

    model, path = load("bundled"), tmp_path_factory.mktemp("damaged") / "damaged.safetensors"
    with torch.no_grad():
        model.module.blocks[0].mlp_norm.weight.mul_(-2)
    save_checkpoint(model, path)
    return path


def test_a_damaged_model_fails(vitlet, few_images, damaged):
    finished = vitlet("eval", damaged, "--data", few_images, "--against", "bundled", "--max-drop", "0.5", "--json", "-")
    assert finished.returncode == 3, finished.stderr
    assert "FAIL: with 95 % confidence top-1 drops by at least" in " ".join(finished.stderr.split())


def test_another_candidate_on_the_same_images_is_held_to_more(vitlet, few_images, damaged, tmp_path):
    """The first one again is not."""
    told, looks = [], tmp_path / "vitlet" / "looks"
    for candidate in (("bundled", *INT8), (damaged, "--against", "bundled"), ("bundled", *INT8)):
        finished = vitlet(
            "eval", *candidate, "--data", few_images, "--max-drop", "50", "--json", "-",
            env={"XDG_STATE_HOME": str(tmp_path)},
        )  # fmt: skip
        certificate = json.loads(finished.stdout)["certificate"]
        told.append(("had a part in 1 other verdict before" in " ".join(finished.stderr.split()), certificate))
    assert [(is_told, found["earlier_looks"]) for is_told, found in told] == [(False, 0), (True, 1), (False, 0)]
    assert told[0] == told[2]
    assert sorted(path.name for path in looks.iterdir()) == ["00000001.npy", "00000002.npy"]


def test_without_labels_answers_are_compared(vitlet, few_images, tmp_path):
    for number, image in enumerate(sorted(few_images.rglob("*.png"))):
        (tmp_path / f"{number}.png").write_bytes(image.read_bytes())
    finished = vitlet("eval", "bundled", "--data", tmp_path, *INT8, "--json", "-")
    assert finished.returncode == 0, finished.stderr
    assert "of answers change, and accuracy drops by no more (" in " ".join(finished.stderr.split())
    assert json.loads(finished.stdout)["certificate"]["labelled"] == 0
    alone = vitlet("eval", "bundled", "--data", tmp_path)
    assert alone.returncode == 1
    assert "so there is no accuracy to measure" in alone.stderr


def test_a_limit_with_nothing_to_compare_with_is_refused(vitlet, few_images):
    finished = vitlet("eval", "bundled", "--data", few_images, "--max-drop", "1")
    assert finished.returncode == 1
    assert "name the original model with --against" in finished.stderr
