"""``vitlet compress``, then ``vitlet verify`` and the bundle's own ``selftest.py``, as a user does it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def bundle(vitlet, few_images, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("verify") / "small.vitlet"
    done = vitlet(
        "compress", "bundled", "--data", few_images, "--out", out, "--engines", "onnxruntime",
        "--precisions", "int8-dynamic", "--max-size-mb", "1", "--quick", "--exhaustive", "--golden-images", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


def test_a_fresh_bundle_is_verified(vitlet, bundle):
    before = sorted(bundle.iterdir())
    done = vitlet("verify", bundle, "--no-speed", "--json", "-")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["command"], document["outcome"]) == ("verify", "ok")
    assert [row["check"] for row in document["rows"]] == ["files", "preprocessing", "answers"]
    assert document["certificate"] is None or document["certificate"]["images"] > 0
    assert "ALL IS WELL" in done.stderr
    assert sorted(bundle.iterdir()) == before


def test_it_brings_one_of_the_users_images_and_the_test_card(bundle):
    assert sorted(path.name for path in bundle.glob("golden-*.png")) == [
        "golden-1.png", "golden-card-turned.png", "golden-card.png",
    ]  # fmt: skip


def test_the_bundles_own_test_agrees(bundle):
    done = subprocess.run(
        [sys.executable, "-I", bundle / "selftest.py", "--no-speed", "--no-run", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_bundle_brings_along_is_not_run(vitlet, bundle, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    for name in ("selftest.py", "preprocess.py", "selftest_checks.py", "runtime.py"):
        (copy / name).write_text(f"open({str(tmp_path / 'harm')!r}, 'w')")
    done = vitlet("verify", copy, "--no-speed")
    assert done.returncode == 10
    assert "selftest.py is damaged" in done.stdout
    assert not (tmp_path / "harm").exists()


def test_a_changed_page_is_named(vitlet, bundle, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    (copy / "report.html").write_text("changed")
    done = vitlet("verify", copy, "--no-speed")
    assert done.returncode == 10
    assert "report.html is damaged" in done.stdout


def test_an_applications_preprocessing(vitlet, bundle, tmp_path):
    (tmp_path / "app.py").write_text(
        "import numpy as np\nfrom PIL import Image\n"
        "def prepare(path):\n    return np.asarray(Image.open(path).convert('RGB').resize((28, 28)), np.uint8)\n"
    )
    done = vitlet("verify", bundle, "--no-speed", "--preprocess", f"{tmp_path / 'app.py'}:prepare")
    assert done.returncode == 11
    assert "[channels, height, width]" in done.stdout
    assert "0..255" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("--max-latency-ms", "soon"), 2), (("--preprocess", "nowhere.py:f"), 1), (("--tensor", "nowhere.npy"), 1)],
)
def test_mistakes_are_one_sentence(vitlet, bundle, arguments, code):
    done = vitlet("verify", bundle, "--no-speed", *arguments)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_what_is_no_bundle(vitlet, tmp_path):
    done = vitlet("verify", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "no vitlet bundle" in done.stderr
