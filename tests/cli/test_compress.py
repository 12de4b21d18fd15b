"""The main job as a user does it: compress, then use the folder that came out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from vitlet.data.samples import bundled_images

ROW = {
    "engine", "precision", "status", "reason", "latency_ms", "size_bytes", "peak_memory_bytes", "load_ms",
    "first_ms", "logits_error", "agreement", "top1", "top5",
}  # fmt: skip


@pytest.fixture(scope="module")
def done(vitlet, few_images, tmp_path_factory) -> tuple[subprocess.CompletedProcess[str], Path, dict]:
    """One compression of the bundled model, over two engines."""
    folder = tmp_path_factory.mktemp("done")
    finished = vitlet(
        "compress", "bundled", "--data", few_images, "--out", folder / "small.vitlet", "--json", folder / "out.json",
        "--engines", "torch,torchscript", "--precisions", "fp32,int8-dynamic-x86", "--quick", "--exhaustive",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    return finished, folder / "small.vitlet", json.loads((folder / "out.json").read_text())


def test_the_bundle_holds_model_manifest_and_report(done):
    _, bundle, _ = done
    names = {path.name for path in bundle.iterdir()}
    assert {"manifest.json", "report.html"} < names
    assert [name for name in names if name.startswith("model.")]
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["reference"] == "bundled"
    assert len(manifest["labels"]) == 10
    assert manifest["image_spec"]["height"] == 28
    assert manifest["recipe"]["command"].startswith("vitlet compress bundled")


def test_the_document_has_a_row_for_each_variant(done):
    _, _, document = done
    assert document["schema_version"] == 1
    assert document["command"] == "compress"
    assert document["environment"]["packages"]["torch"]
    assert [(row["engine"], row["precision"]) for row in document["rows"]] == [
        ("torch", "fp32"), ("torchscript", "fp32"), ("torchscript", "int8-dynamic-x86"),
    ]  # fmt: skip
    for row in document["rows"]:
        assert row.keys() >= ROW
        assert row["status"] == "ok", row["reason"]
        assert row["latency_ms"]["n"] >= 16
        assert row["latency_ms"]["p50"] > 0
        assert row["latency_ms"]["p90"] is None  # too few runs for it
        assert row["size_bytes"] > 100_000
        assert row["peak_memory_bytes"] > 0
        assert row["load_ms"] > 0
        assert row["first_ms"] > 0
        assert 0 <= row["top1"] <= row["top5"] <= 1
        assert 0 <= row["calibration_error"] < 0.2
        assert row["end_to_end_ms"] > 0
    baseline, scripted, quantized = document["rows"]
    assert baseline["logits_error"] == 0
    assert baseline["agreement"] == 1
    assert scripted["logits_error"] < 1e-4 < quantized["logits_error"] < 0.2
    assert quantized["size_bytes"] < 0.4 * baseline["size_bytes"]


def test_the_table_says_what_is_best_and_what_was_written(done):
    finished, bundle, document = done
    best = next(row for row in document["rows"] if row["best"])
    (line,) = [line for line in finished.stdout.splitlines() if "◀" in line and "recommended" not in line]
    assert f"{best['precision']} ◀" in line
    assert f"Wrote {bundle}" in finished.stdout
    assert document["sentences"][0] in " ".join(finished.stdout.split())
    assert sum(row["best"] for row in document["rows"]) == 1


def test_the_bundle_classifies_alone(vitlet, done, few_images, tmp_path):
    _, bundle, _ = done
    moved = tmp_path / "elsewhere"
    shutil.copytree(bundle, moved)
    finished = vitlet("classify", moved, few_images / "Trouser", "--top", "2", "--json", "-")
    assert finished.returncode == 0, finished.stderr
    rows = json.loads(finished.stdout)["rows"]
    assert len(rows) == 2
    for row in rows:
        assert row["answers"][0]["label"] == "Trouser"
        assert row["answers"][0]["probability"] > row["answers"][1]["probability"] > 0


def test_the_bundle_is_evaluated_and_measured(vitlet, done, few_images):
    _, bundle, document = done
    best = next(row for row in document["rows"] if row["best"])
    finished = vitlet("eval", bundle, "--data", few_images, "--json", "-")
    (row,) = json.loads(finished.stdout)["rows"]
    assert (row["engine"], row["precision"]) == (best["engine"], best["precision"])
    assert row["images"] == 20  # not in parts
    assert row["top1"] > 0.7
    finished = vitlet("bench", bundle, "--quick", "--explain", "--json", "-")
    (row,) = json.loads(finished.stdout)["rows"]
    assert row["execution"]["operators"]
    assert row["execution"]["operators"][0]["name"] in finished.stderr
    assert row["status"] == "ok"
    assert row["latency_ms"]["n"] >= 16


#: What int8 keeps to and the original does not: so int8 is chosen whatever a busy machine makes of its time.
SMALL = ("--max-size-mb", "1")
FAST = ("--engines", "onnxruntime", "--precisions", "int8-dynamic", "--quick", *SMALL)
#: And there is nothing to search for where what is tested comes after the search.
AT_ONCE = (*FAST, "--exhaustive")


@pytest.fixture(scope="module")
def certified(vitlet, tmp_path_factory) -> tuple[subprocess.CompletedProcess[str], Path, dict]:
    """A compression of the bundled model on its 500 images, with a limit that is easily kept; not a quick one, whose
    report leaves things out."""
    folder = tmp_path_factory.mktemp("certified")
    finished = vitlet(
        "compress", "bundled", "--out", folder / "small.vitlet", "--json", folder / "out.json", "--max-drop", "5",
        "--engines", "onnxruntime", "--precisions", "int8-dynamic", *SMALL,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    return finished, folder / "small.vitlet", json.loads((folder / "out.json").read_text())


def test_the_best_is_judged_by_images_that_did_not_choose_it(certified):
    finished, bundle, document = certified
    found = document["certificate"]
    assert (found["outcome"], found["limit"], found["confidence"]) == ("pass", 0.05, 0.95)
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["certificate"] == found
    assert 250 < found["labelled"] < 350
    assert 80 < manifest["images"]["count"] < 170
    assert found["labelled"] + manifest["images"]["count"] < 500  # some are for calibration
    told = "PASS: with 95 % confidence top-1 drops by at most"
    page = (bundle / "report.html").read_text()
    for said in (told, "Latency: an image takes"):
        assert said in " ".join(finished.stdout.split())
        assert said in page
    assert found["latency"]["low_ms"] < found["latency"]["ms"] < found["latency"]["high_ms"]
    assert found["latency"]["speedup"]["low"] > 0
    assert "What each operation costs in int8" in page
    assert ("Images that are answered otherwise" in page) == (found["changed"] > 0)


def test_without_images_nothing_is_said_about_accuracy(vitlet, tmp_path):
    refused = vitlet("compress", "bundled", "--data", "none", "--max-drop", "1", "--out", tmp_path / "x.vitlet")
    assert refused.returncode == 1
    assert "without images nothing can be said about a drop of accuracy; leave out --max-drop" in refused.stderr
    out = tmp_path / "small.vitlet"
    finished = vitlet(
        "compress", "bundled", "--data", "none", "--min-agreement", "50", "--limit", "40", "--out", out,
        "--engines", "onnxruntime", "--precisions", "int8-static", "--quick", *SMALL,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["certificate"], manifest["images"]["count"], manifest["images"]["labelled"]) == (None, 40, 0)
    assert "made by vitlet" in manifest["images"]["note"]
    assert "calibrated on images that vitlet made" in manifest["model"]["note"]
    assert "made by vitlet" in " ".join(finished.stdout.split())
    assert all(word not in finished.stdout for word in ("PASS", "top-1"))
    assert all(row["top1"] is None for row in manifest["measurements"])


@pytest.fixture(scope="module")
def fragile(tmp_path_factory) -> Path:
    """The bundled model, with one channel of the input of five layers a thousand times the others: in float the same
    answers, since the weights undo it, and in int8 (a range for all channels) hardly anything is left."""
    import torch

    import vitlet as package
    from vitlet.models.checkpoint import save_checkpoint

    classifier = package.load("bundled")
    with torch.no_grad():
        for block in classifier.module.blocks[:5]:
            place = block.mlp_norm.weight.abs().argmax()
            block.mlp_norm.weight[place] *= 3000
            block.mlp_norm.bias[place] *= 3000
            block.mlp.up.weight[:, place] /= 3000
    path = tmp_path_factory.mktemp("fragile") / "fragile.safetensors"
    save_checkpoint(classifier, path)
    return path


def test_what_int8_would_destroy_stays_in_float(vitlet, fragile, tmp_path):
    """ONNX Runtime has one range for all channels of an activation."""
    out = tmp_path / "small.vitlet"
    finished = vitlet(
        "compress", fragile, "--data", bundled_images(), "--out", out, "--max-drop", "5",
        "--engines", "onnxruntime", "--precisions", "int8-static", "--quick", "--max-size-mb", "2",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    kept = manifest["model"]["precision"]["in_float"]
    assert manifest["model"]["precision"]["name"] == "int8-static"
    assert {"blocks.0.mlp.up", "blocks.1.mlp.up"} <= set(kept) <= {f"blocks.{i}.mlp.up" for i in range(5)}
    assert f"in float: {', '.join(kept)}" in manifest["model"]["note"]
    reasons = {row["precision"]: row["reason"] for row in manifest["measurements"]}
    assert "not the same model any more" in reasons["int8-static"]
    assert manifest["certificate"]["outcome"] == "pass"
    assert vitlet("verify", out, "--json", "-").returncode == 0


def test_what_cannot_be_promised_is_no_success(vitlet, few_images, tmp_path):
    """The bundle is there all the same, and says so itself."""
    finished = vitlet(
        "compress", "bundled", "--data", few_images, "--out", tmp_path / "small.vitlet", "--max-drop", "0.5",
        *AT_ONCE,
    )  # fmt: skip
    assert finished.returncode == 4, finished.stderr
    assert "INCONCLUSIVE" in finished.stdout
    assert json.loads((tmp_path / "small.vitlet" / "manifest.json").read_text())["certificate"]["more_images"] > 100


def test_images_named_for_the_verdict(vitlet, few_images, tmp_path):
    """None that had a part in the choice may judge, whatever folder it lies in and whatever it is called."""
    judges = tmp_path / "judges"
    for folder in sorted(path for path in few_images.iterdir() if path.is_dir()):
        first, second = sorted(folder.glob("*.png"))
        for place, image, name in ((judges, first, "own"), (judges, second, "copy"), (tmp_path / "data", second, "2")):
            (place / folder.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(image, place / folder.name / f"{name}.png")
    finished = vitlet(
        "compress", "bundled", "--data", tmp_path / "data", "--certify-data", judges,
        "--out", tmp_path / "small.vitlet", *AT_ONCE,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    manifest = json.loads((tmp_path / "small.vitlet" / "manifest.json").read_text())
    assert manifest["images"]["count"] == 10
    assert (manifest["certificate"]["images"], manifest["certified_on"]["skipped_count"]) == (10, 10)
    assert "the same picture is among those to choose or calibrate by" in " ".join(finished.stdout.split())


def test_one_image_is_too_few_for_a_verdict(vitlet, few_images, tmp_path):
    finished = vitlet(
        "compress", "bundled", "--data", next((few_images / "Bag").iterdir()), "--out", tmp_path / "small.vitlet",
        "--max-drop", "1", *AT_ONCE,
    )  # fmt: skip
    assert finished.returncode == 4, finished.stderr
    assert "too few images" in finished.stderr


def test_nothing_is_written_where_nothing_keeps_to_the_limits(vitlet, few_images, tmp_path):
    """But what was measured is told, and which variant comes nearest."""
    finished = vitlet(
        "compress", "bundled", "--data", few_images, "--out", tmp_path / "small.vitlet",
        "--json", tmp_path / "out.json", *FAST, "--max-size-mb", "0.1",
    )  # fmt: skip
    assert finished.returncode == 3, finished.stderr
    assert "FAIL: Nothing keeps within the limits here; onnxruntime int8-dynamic comes nearest: its file has" in (
        " ".join(finished.stderr.split())
    )
    document = json.loads((tmp_path / "out.json").read_text())
    assert (document["bundle"], document["certificate"], document["twins"]) == (None, None, [])
    assert not any(row["best"] for row in document["rows"])
    assert [row["verdict"] for row in document["rows"]] == ["baseline", "over budget"]
    assert "int8-dynamic" in finished.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "small.vitlet.search"]  # for other limits


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_search_that_was_cut_short_goes_on_where_it_was(vitlet, start_vitlet, few_images, tmp_path, how):
    """Killed after the first variant was tried: no bundle, and the second run does not try that one again."""
    out, state = tmp_path / "small.vitlet", tmp_path / "small.vitlet.search"
    command = (
        "compress", "bundled", "--data", few_images, "--out", out, "--engines", "onnxruntime",
        "--precisions", "fp32,int8-dynamic", "--quick",
    )  # fmt: skip
    process = start_vitlet(*command)
    ends = time.monotonic() + 120
    while _lines(state / "journal.jsonl") < 2 and time.monotonic() < ends:
        time.sleep(0.02)
    process.send_signal(how)
    _, told = process.communicate(timeout=600)
    with suppress(ProcessLookupError):  # what was at work for it
        os.killpg(process.pid, signal.SIGKILL)
    assert not out.exists()
    assert _lines(state / "journal.jsonl") >= 2, told
    assert how == signal.SIGKILL or ("run the same again to go on" in told and process.returncode == 130)
    variant = _remembered_as(state / "journal.jsonl", "this was read in the journal")
    finished = vitlet(*command, "--json", tmp_path / "out.json")
    assert finished.returncode == 0, finished.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "small.vitlet"]
    rows = {
        f"{row['engine']} {row['precision']}": row for row in json.loads((tmp_path / "out.json").read_text())["rows"]
    }
    assert (rows[variant]["status"], rows[variant]["reason"]) == ("left out", "this was read in the journal")


def _remembered_as(journal: Path, fault: str) -> str:
    """Have the first variant of a journal remembered with this fault; returns its name."""
    lines = journal.read_text().splitlines()
    first = json.loads(lines[1])
    first["trial"] |= {"asked": True, "fault": fault}
    journal.write_text("\n".join([lines[0], json.dumps(first), *lines[2:]]) + "\n")
    return first["variant"]


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def test_limits_that_one_keeps_to(vitlet, few_images, tmp_path):
    finished = vitlet(
        "compress", "bundled", "--data", few_images, "--out", tmp_path / "small.vitlet", *AT_ONCE,
        "--max-size-mb", "3", "--min-speedup", "1.01", "--max-latency-ms", "1000", "--max-memory-mb", "1000",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    recipe = json.loads((tmp_path / "small.vitlet" / "manifest.json").read_text())["recipe"]
    assert recipe["engine"] == "onnxruntime"
    limits = {"max_size_bytes": 3_000_000, "min_speedup": 1.01, "max_latency_ms": 1000, "max_memory_bytes": 10**9}
    assert recipe["settings"].items() >= limits.items()


def test_a_changed_bundle_is_refused(vitlet, done, few_images, tmp_path):
    _, bundle, _ = done
    damaged = tmp_path / "damaged"
    shutil.copytree(bundle, damaged)
    (model,) = damaged.glob("model.*")
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    finished = vitlet("classify", damaged, few_images / "Bag")
    assert finished.returncode == 1
    assert model.name in finished.stderr
    assert "Traceback" not in finished.stderr


def test_images_from_standard_input(done, few_images):
    import sys

    _, bundle, _ = done
    image = next((few_images / "Sandal").glob("*.png"))
    with image.open("rb") as stream:
        finished = subprocess.run(
            [sys.executable, "-m", "vitlet", "classify", str(bundle), "-", "--top", "1"],
            stdin=stream, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert "Sandal" in finished.stdout


@pytest.mark.parametrize(
    ("number", "moment", "left"), [(signal.SIGINT, "Searching", []), (signal.SIGTERM, "Measuring", ["b.search"])]
)
def test_an_interrupted_run_leaves_nothing_but_what_to_go_on_from(
    start_vitlet, few_images, tmp_path, number, moment, left
):
    workplace, scratch = tmp_path / "workplace", tmp_path / "scratch"
    workplace.mkdir()
    scratch.mkdir()
    process = start_vitlet(
        "compress", "bundled", "--data", few_images, "--out", workplace / "b", "--engines", "torch", "--quick",
        env={"TMPDIR": str(scratch)},
    )  # fmt: skip
    for line in process.stderr:
        if moment in line:
            break
    time.sleep(0.3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in errors
    assert [path.name for path in workplace.iterdir()] == left
    assert list(scratch.iterdir()) == []


def test_a_killed_run_leaves_no_bundle(start_vitlet, few_images, tmp_path):
    process = start_vitlet(
        "compress", "bundled", "--data", few_images, "--out", tmp_path / "b", "--engines", "torch", "--quick",
        env={"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    for line in process.stderr:
        if "Measuring" in line:
            break
    process.kill()
    process.communicate(timeout=600)
    assert not (tmp_path / "b").exists()
