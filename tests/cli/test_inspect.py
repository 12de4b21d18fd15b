"""``vitlet inspect``: a real run on the bundled model, and what it refuses."""

from __future__ import annotations

import json

import pytest
from PIL import Image


@pytest.fixture(scope="module")
def inspected(vitlet, few_images, tmp_path_factory):
    page = tmp_path_factory.mktemp("page") / "page.html"
    picture = next(iter(sorted(few_images.rglob("*.png"))))
    finished = vitlet(
        "inspect", "bundled", "--data", few_images, "--image", picture, "--limit", "8", "--top", "3", "--threads", "1",
        "--out", page, "--json", "-",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    return finished, json.loads(finished.stdout), page, picture


def test_every_operation_is_a_row_the_most_sensitive_first(inspected):
    finished, document, _, _ = inspected
    rows = document["rows"]
    assert (document["schema_version"], document["command"], document["precision"]) == (1, "inspect", "int8-static")
    assert len(rows) == 1 + 6 * 6 + 2
    assert [row["kl_divergence"] for row in rows] == sorted((row["kl_divergence"] for row in rows), reverse=True)
    assert all(0 < row["logits_error"] < 0.1 and 20 < row["sqnr_db"] < 80 and row["images"] == 8 for row in rows)
    assert {row["kind"] for row in rows} == {kind["kind"] for kind in document["kinds"]}
    assert document["together"]["logits_error"] > max(row["logits_error"] for row in rows)
    printed = [line.split()[0] for line in finished.stderr.splitlines() if line.split()]
    assert [name for name in printed if "." in name or name == "embed"] == [row["operation"] for row in rows[:3]]
    assert "all 39 together" in finished.stderr


def test_inputs_and_attention(inspected):
    _, document, _, picture = inspected
    gelu = next(one for one in document["inputs"] if one["operation"] == "blocks.0.mlp.down")
    assert -0.18 < gelu["minimum"] < -0.16  # the least value of GELU
    assert gelu["magnitude_999"] <= gelu["maximum"]
    assert len(gelu["channel_maxima"]) == 384
    (looked,) = document["attention"]
    assert looked["image"] == str(picture)
    assert looked["answer"] in ("Ankle boot", "T-shirt/top", "Trouser")
    assert sum(map(sum, looked["rollout"])) == pytest.approx(1)
    assert 0 < looked["rollout_moved"] < 0.1


def test_times_come_with_their_samples_or_a_reason(inspected):
    _, document, _, _ = inspected
    row = next(row for row in document["rows"] if row["operation"] == "blocks.0.mlp.up")
    attention = next(row for row in document["rows"] if row["operation"] == "blocks.0.attention.scores")
    if document["times"]["reason"]:
        assert row["saved_ms"] is None
        return
    assert len(row["fp32_samples_ms"]) == len(row["int8_samples_ms"]) == 64
    assert all(sample > 0 for sample in row["fp32_samples_ms"])
    assert attention["saved_ms"] is None  # inside a fused operator
    timed = {row["kind"] for row in document["rows"] if row["saved_ms"] is not None}
    assert timed == {"patch embedding", "qkv", "projection", "mlp up", "mlp down", "head", "distillation head"}


def test_the_page_is_small_and_names_what_was_found(inspected):
    _, document, page, _ = inspected
    html = page.read_text("utf-8")
    assert len(html) < 3_000_000
    assert all(row["operation"] in html for row in document["rows"])
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]


def test_a_page_that_is_there_is_kept(vitlet, few_images, inspected):
    page = inspected[2]
    before = page.read_bytes()
    finished = vitlet("inspect", "bundled", "--data", few_images, "--out", page)
    assert finished.returncode == 1
    assert "already exists" in finished.stderr
    assert page.read_bytes() == before
    missing = vitlet("inspect", "bundled", "--out", page.parent / "no" / "page.html")
    assert "there is no folder" in missing.stderr
    folder = vitlet("inspect", "bundled", "--out", page.parent)
    assert "is a folder" in folder.stderr


def test_without_images_a_model_is_refused_before_it_is_loaded(vitlet):
    finished = vitlet("inspect", "deit_small_patch16_224")
    assert finished.returncode == 1
    assert finished.stderr.strip() == "error: no images were given: name a folder with --data"


def test_a_foreign_model_dynamic_and_without_times(few_images, tmp_path):
    """A convolutional network has operations, and no attention to show."""
    from vitlet import inspect
    from vitlet.data.image_spec import ImageSpec
    from vitlet.models.small_resnet import small_resnet

    spec = ImageSpec(28, 28, 28)
    model = small_resnet(spec, tuple("abcdefghij"))
    out = tmp_path / "page.html"
    found = inspect(model, data=[few_images], limit=4, threads=1, precision="int8-dynamic", timed=False, out=out)
    assert {one.operation.kind for one in found.inspection.sensitivities.operations} == {"convolution", "linear"}
    assert found.inspection.attention == ()
    assert "so there are no maps of it" in out.read_text("utf-8")
    assert (found.times.times, found.times.reason) == ({}, "not asked for")


def test_mistakes_in_python(few_images, tmp_path):
    from vitlet import inspect
    from vitlet.errors import InvalidValue, NoImages

    with pytest.raises(InvalidValue, match="'fp16' cannot be simulated; choose int8-static or int8-dynamic"):
        inspect("bundled", precision="fp16")
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(NoImages, match=r"a\.png"):
        inspect("bundled", data=[few_images], images=[tmp_path / "a.png"], limit=4, timed=False)
