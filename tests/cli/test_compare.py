"""``vitlet compare``: a new bundle against the one that is in use."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def bundles(vitlet, few_images, tmp_path_factory) -> dict[str, Path]:
    """The bundled model in PyTorch and in ONNX Runtime, and a damaged one in ONNX Runtime."""
    import torch

    from vitlet import load
    from vitlet.models.checkpoint import save_checkpoint

    folder = tmp_path_factory.mktemp("bundles")
    model = load("bundled")
    with torch.no_grad():
        model.module.blocks[0].mlp_norm.weight.mul_(-2)
    save_checkpoint(model, folder / "damaged.safetensors")
    made = {}
    int8 = ("--engines", "onnxruntime", "--precisions", "int8-dynamic", "--max-size-mb", "1")  # the original has 2.7
    for name, model_name, variants in (
        ("plain", "bundled", ("--engines", "torch", "--precisions", "fp32")),
        ("fast", "bundled", int8),
        ("damaged", folder / "damaged.safetensors", int8),
    ):
        made[name] = folder / f"{name}.vitlet"
        finished = vitlet(
            "compress", model_name, "--data", few_images, "--out", made[name], *variants,
            "--quick", "--exhaustive", "--no-check",
        )  # fmt: skip
        assert finished.returncode == 0, finished.stderr
    return made


def test_a_faster_one_with_the_same_answers_passes(vitlet, bundles, few_images):
    finished = vitlet(
        "compare", bundles["plain"], bundles["fast"], "--data", few_images, "--max-drop", "50", "--max-slower", "10",
        "--json", "-",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    told = " ".join(finished.stderr.split())
    assert "PASS: an image takes -" in told
    assert "It runs on onnxruntime int8-dynamic instead of torch fp32." in told
    document = json.loads(finished.stdout)
    assert (document["command"], document["outcome"], document["speed"]) == ("compare", "pass", "pass")
    assert document["certificate"]["outcome"] == "pass"
    assert [row["engine"] for row in document["rows"]] == ["torch", "onnxruntime"]
    assert document["rows"][1]["speedup"]["low"] > 1
    assert document["accuracy"]["labelled_images"] == 20


def test_a_slower_one_fails(vitlet, bundles):
    finished = vitlet("compare", bundles["fast"], bundles["plain"], "--max-slower", "10")
    assert finished.returncode == 3, finished.stderr
    assert "FAIL: an image takes +" in " ".join(finished.stdout.split())


def test_one_that_answers_worse_fails(vitlet, bundles, few_images):
    finished = vitlet("compare", bundles["fast"], bundles["damaged"], "--data", few_images, "--max-drop", "0.5")
    assert finished.returncode == 3, finished.stderr
    told = " ".join(finished.stdout.split())
    assert "FAIL: with 95 % confidence top-1 drops by at least" in told
    assert "It was made from" in told


def test_few_images_cannot_tell(vitlet, bundles, few_images):
    finished = vitlet("compare", bundles["fast"], bundles["fast"], "--data", few_images, "--max-drop", "0.1")
    assert finished.returncode == 4, finished.stderr


def test_without_limits_there_is_no_verdict(vitlet, bundles):
    finished = vitlet("compare", bundles["fast"], bundles["damaged"], "--json", "-")
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    assert (document["outcome"], document["certificate"], document["accuracy"]) == (None, None, None)


def test_what_cannot_be_compared(vitlet, bundles, tmp_path):
    for arguments, text in (
        ((bundles["fast"], tmp_path), "is no vitlet bundle"),
        ((bundles["fast"], "bundled"), "not there"),
        ((bundles["fast"], bundles["plain"], "--max-drop", "1"), "name some with --data"),
    ):
        finished = vitlet("compare", *arguments)
        assert finished.returncode == 1
        assert text in " ".join(finished.stderr.split())


def test_other_classes_are_refused(vitlet, bundles, tmp_path):
    other = tmp_path / "other.vitlet"
    shutil.copytree(bundles["fast"], other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["labels"][0] = "Cat"
    content = json.dumps(manifest).encode()
    (other / "manifest.json").write_bytes(content)
    sums, digest = (other / "SHA256SUMS").read_text().splitlines(), hashlib.sha256(content).hexdigest()
    lines = [f"{digest}  manifest.json" if line.endswith("  manifest.json") else line for line in sums]
    (other / "SHA256SUMS").write_text("".join(f"{line}\n" for line in lines))
    finished = vitlet("compare", bundles["fast"], other)
    assert finished.returncode == 1
    assert "has other classes than" in finished.stderr
