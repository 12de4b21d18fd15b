"""``vitlet distill`` as typed: recipes printed and changed, a folder of pictures to a student, Ctrl-C and --resume."""

from __future__ import annotations

import json
import signal
import tomllib

import numpy as np
import pytest
from PIL import Image

SMALL = (
    *("--set", "student.width=32", "--set", "student.depth=2", "--set", "student.heads=2", "--set", "student.patch=8"),
    *("--image-size", "32", "--batch", "8", "--objective", "none", "--set", "training.warmup_epochs=0"),
    *("--workers", "1", "--threads", "1", "--device", "cpu"),
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two classes of 16 pictures; one of them is no picture."""
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("pictures")
    for name, shade in (("dark", 60), ("light", 190)):
        (folder / name).mkdir()
        for number in range(16):
            pixels = random.integers(shade - 30, shade + 30, (24 + number, 40, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")
    (folder / "dark" / "05.png").write_bytes(b"no picture")
    return folder


def test_a_recipe_is_printed_edited_and_rerun(vitlet, tmp_path):
    printed = vitlet("distill", "--recipe", "deit", "--print-recipe", "--epochs", "7", "--teacher", "timm:resnet50")
    assert printed.returncode == 0, printed.stderr
    recipe = tomllib.loads(printed.stdout)
    assert recipe["training"]["epochs"] == 7
    assert recipe["teacher"]["model"] == "timm:resnet50"
    assert recipe["augmentation"]["random_augment"] == "rand-m9-mstd0.5-inc1"
    (tmp_path / "mine.toml").write_text(printed.stdout)
    again = vitlet("distill", "--recipe", tmp_path / "mine.toml", "--print-recipe")
    assert again.stdout == printed.stdout


def test_a_folder_of_pictures(vitlet, pictures, tmp_path):
    out = tmp_path / "student.safetensors"
    finished = vitlet(
        "distill", "--data", pictures, "--out", out, *SMALL, "--epochs", "2", "--json", "-", "--tensorboard"
    )
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    (row,) = document["rows"]
    assert (row["role"], row["status"], len(row["epochs"])) == ("student", "ok", 2)
    assert document["recipe"]["student"]["width"] == 32
    said = " ".join(finished.stderr.split())
    assert "Student epoch 2 of 2 done, loss" in said
    assert f"top-1 {100 * row['accuracy']['top1']:.2f} % of {row['test_images']} test images" in said
    if row["epochs"][-1]["unreadable"]:  # the broken one may be among those held out
        assert "1 images cannot be read and were left out" in said
    assert out.is_file()
    assert list((tmp_path / "student.training" / "tensorboard" / "student").glob("events.out.tfevents.*"))
    classified = vitlet("classify", out, pictures / "light" / "03.png")
    assert classified.returncode == 0, classified.stderr


def test_then_compress_is_in_the_same_document(pictures, tmp_path, monkeypatch):
    """Of the runtimes only one is tried here."""
    from functools import partial

    from typer.testing import CliRunner

    from vitlet import pipeline
    from vitlet.cli.main import app

    one = {"engine_names": ["onnxruntime"], "precision_names": ["fp32"], "exhaustive": True}
    monkeypatch.setattr(pipeline, "compress_student", partial(pipeline.compress_student, **one))
    out = tmp_path / "student.safetensors"
    arguments = ["distill", "--data", pictures, "--out", out, *SMALL, "--epochs", "1", "--then", "compress"]
    done = CliRunner().invoke(app, [*map(str, arguments), "--json", "-"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["bundle"] == str(tmp_path / "student.vitlet")
    assert [row["engine"] for row in document["variants"]] == ["torch", "onnxruntime"]
    assert [row["role"] for row in document["rows"]] == ["student"]
    assert f"Wrote {document['bundle']}" in " ".join(done.stderr.split())


def test_interrupted_and_resumed(vitlet, start_vitlet, pictures, tmp_path):
    arguments = ("distill", "--data", pictures, "--out", tmp_path / "student.safetensors", *SMALL, "--epochs", "400")
    running = start_vitlet(*arguments)
    for line in running.stderr:
        if "epoch 2 of 400 done" in line:
            running.send_signal(signal.SIGINT)
            break
    _, errors = running.communicate(timeout=600)
    assert running.returncode == 130
    said = " ".join(errors.split())
    assert "error: stopped in epoch" in said
    assert "run the same with --resume" in said
    assert "Traceback" not in errors
    assert not (tmp_path / "student.safetensors").exists()
    begun = vitlet(*arguments)
    assert begun.returncode == 1
    assert "add --resume to go on, or delete it" in " ".join(begun.stderr.split())
    other = vitlet(*arguments, "--resume", "--set", "training.weight_decay=0.2")
    assert "was begun with another training settings" in " ".join(other.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name the images with --data and the student's file with --out"),
        (
            ("--recipe", "deitt"),
            "there is no recipe 'deitt'; name a .toml file or one of bundled, deit, deit-384, quick",
        ),
        (("--set", "training.epoch=3"), "a recipe has no setting training.epoch; did you mean training.epochs?"),
        (("--set", "training.epochs=0"), "training.epochs is 0; it must be 1 to 100000"),
        (("--set", "training.epochs=many"), "Expected `int`, got `str` - at `$.training.epochs`"),
        (("--data", "torchvision:FashionMNST", "--out", "x.safetensors"), "torchvision:FashionMNIST"),
        (("--data", "nowhere/", "--out", "x.safetensors"), "nowhere"),
    ],
)
def test_mistakes(vitlet, arguments, message, tmp_path):
    finished = vitlet("distill", *arguments, cwd=tmp_path)
    assert finished.returncode == 1
    said = " ".join(finished.stderr.split())
    assert said.startswith("error: ")
    assert message in said
    assert "Traceback" not in finished.stderr
