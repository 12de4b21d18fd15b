"""What users get wrong: each mistake is one clear sentence, a non-zero exit, and nothing left behind."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest


def refused(done: subprocess.CompletedProcess[str], *words: str, code: int = 1) -> None:
    """One sentence on standard error that holds these words, no traceback, this exit code."""
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert all(word in lines[0] for word in words), lines[0]


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    folder = tmp_path / "workplace"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("deit_smal_patch16_224", ("deit_smal_patch16_224", "deit_small_patch16_224")),
        ("timm:no_such_model_at_all", ("no_such_model_at_all",)),
        ("hf:not-a-folder-and-no-name", ("not-a-folder-and-no-name",)),
        ("deit:deit_huge", ("deit_huge", "deit_base_patch16_224")),
        ("nowhere/model.safetensors", ("nowhere/model.safetensors",)),
        ("", ("model",)),
    ],
)
def test_a_model_that_is_not_there(vitlet, workplace, few_images, model, words):
    done = vitlet("compress", model, "--data", few_images, "--out", workplace / "b")
    refused(done, *words)
    assert left_in(workplace) == []


def test_a_folder_that_is_not_there(vitlet, workplace):
    done = vitlet("compress", "bundled", "--data", workplace / "photos", "--out", workplace / "b")
    refused(done, "photos")
    assert left_in(workplace) == []


def test_a_folder_without_images(vitlet, workplace, empty):
    (empty / "notes.txt").write_text("no picture")
    refused(vitlet("compress", "bundled", "--data", empty, "--out", workplace / "b"), "empty")
    assert left_in(workplace) == []


def test_a_folder_of_broken_images_only(vitlet, workplace, empty):
    (empty / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 truncated")
    refused(vitlet("compress", "bundled", "--data", empty, "--out", workplace / "b"), "a.jpg")
    assert left_in(workplace) == []


def test_no_images_at_all(vitlet, workplace):
    done = vitlet("compress", "deit_tiny_patch16_224", "--out", workplace / "b", env={"HF_HUB_OFFLINE": "1"})
    refused(done, "--data")


def test_accuracy_without_labels(vitlet, photo):
    refused(vitlet("eval", "bundled", "--data", photo), "T-shirt/top")


def test_an_output_that_is_taken(vitlet, workplace):
    (workplace / "b").mkdir()
    (workplace / "b" / "mine.txt").write_text("precious")
    refused(vitlet("compress", "bundled", "--out", workplace / "b"), "no vitlet bundle", "--out")
    refused(vitlet("compress", "bundled", "--out", workplace / "b", "--overwrite"), "b")
    assert (workplace / "b" / "mine.txt").read_text() == "precious"
    assert left_in(workplace) == ["b"]


def test_an_output_whose_folder_is_missing(vitlet, workplace):
    refused(vitlet("compress", "bundled", "--out", workplace / "no" / "b"), "no")
    assert left_in(workplace) == []


def test_an_output_below_a_file(vitlet, workplace):
    (workplace / "file").write_text("")
    refused(vitlet("compress", "bundled", "--out", workplace / "file" / "b"), "file")


def test_an_output_without_permission(vitlet):
    # /proc refuses every user, root too, as tests often run as root.
    refused(vitlet("compress", "bundled", "--out", "/proc/b"), "/proc")


def test_json_where_none_can_be_written(vitlet, workplace):
    refused(vitlet("doctor", "--json", workplace / "no" / "x.json"), "--json", "no")
    refused(vitlet("doctor", "--json", workplace), "--json", "folder")


@pytest.mark.parametrize("option", ["--engines", "--precisions"])
def test_an_engine_or_precision_that_is_not_there(vitlet, option):
    refused(vitlet("bench", "bundled", option, "int3"), "int3", "there are:")


@pytest.mark.parametrize(
    "arguments",
    [
        ("bench", "bundled", "--threads", "0"),
        ("compress", "bundled"),
        ("classify", "bundled"),
        ("bench", "bundled", "--max-drop", "-1"),
        ("nonsense",),
    ],
)
def test_wrong_usage(vitlet, arguments):
    done = vitlet(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_too_few_runs(vitlet):
    refused(vitlet("bench", "bundled", "--runs", "3"), "runs is 3", "64")


def test_classify_goes_on_after_a_broken_image_and_says_so(vitlet, photo, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    done = vitlet("classify", "bundled", broken, photo, "--top", "1")
    refused(done, "1 of 2 images")
    assert "broken.png" in done.stderr
    assert "photo.jpg: " in done.stdout


def test_classify_what_is_not_there(vitlet, tmp_path):
    refused(vitlet("classify", "bundled", tmp_path / "cat.jpg"), "cat.jpg")


def test_a_damaged_bundle(vitlet, tmp_path, photo):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "manifest.json").write_text("{")
    refused(vitlet("classify", tmp_path / "b", photo), "b")


def test_a_full_disk(workplace, few_images):
    # A limit on file sizes fails writes just as a full disk does, and needs no mount.
    done = subprocess.run(
        [sys.executable, "-m", "vitlet", "compress", "bundled", "--data", str(few_images), "--out", workplace / "b"],
        capture_output=True,
        text=True,
        timeout=600,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    refused(done)
    assert left_in(workplace) == []
