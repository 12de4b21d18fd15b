from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from vitlet.bundle.manifest import FileHash, Manifest
from vitlet.bundle.read import Bundle, is_bundle, read_bundle, sums_text
from vitlet.errors import BundleInvalid


def edit_manifest(folder: Path, change: Callable[[dict], object]) -> None:
    """Change the manifest as an attacker would: the sums are made to fit again."""
    data = msgspec.json.decode((folder / "manifest.json").read_bytes())
    change(data)
    raw = msgspec.json.encode(data)
    files = {name: FileHash(entry["sha256"], entry["size_bytes"]) for name, entry in data["files"].items()}
    (folder / "manifest.json").write_bytes(raw)
    (folder / "SHA256SUMS").write_bytes(sums_text(raw, files))


def test_is_bundle(written: Bundle, tmp_path: Path) -> None:
    assert is_bundle(written.path)
    for path in (tmp_path, tmp_path / "missing", written.path / "manifest.json", Path("nul\0"), Path("x" * 5000)):
        assert not is_bundle(path)


def test_sums_are_what_the_ordinary_tool_verifies(written: Bundle) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("there is no sha256sum here")
    done = subprocess.run(
        ["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=written.path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["manifest.json: OK", "model.pt: OK", "report.html: OK"]


@pytest.mark.parametrize("name", ["model.pt", "manifest.json", "report.html", "SHA256SUMS"])
def test_one_flipped_bit_anywhere_is_caught(written: Bundle, name: str) -> None:
    file = written.path / name
    good = file.read_bytes()
    places = range(len(good)) if len(good) < 400 else range(0, len(good), len(good) // 150)
    for place in places:
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        file.write_bytes(bad)
        with pytest.raises(BundleInvalid) as caught:
            read_bundle(written.path)
        assert "\n" not in str(caught.value)
    file.write_bytes(good)
    assert read_bundle(written.path) == written


@pytest.mark.parametrize("name", ["model.pt", "manifest.json", "report.html", "SHA256SUMS"])
def test_missing_truncated_and_emptied_files_are_named(written: Bundle, name: str) -> None:
    file = written.path / name
    good = file.read_bytes()
    for content in (good[:-1], b"", good + b"\n"):
        file.write_bytes(content)
        with pytest.raises(BundleInvalid, match=name):
            read_bundle(written.path)
    file.unlink()
    with pytest.raises(BundleInvalid, match=f"{name} (is missing|in it)"):
        read_bundle(written.path)


def test_changed_file_of_the_same_size(written: Bundle) -> None:
    file = written.path / "model.pt"
    file.write_bytes(bytes(reversed(file.read_bytes())))
    with pytest.raises(BundleInvalid, match=r"deit\.vitlet: model\.pt was changed since the bundle was written"):
        read_bundle(written.path)


def test_what_is_no_bundle(tmp_path: Path, written: Bundle) -> None:
    with pytest.raises(BundleInvalid, match="gone is not there; a bundle is the folder"):
        read_bundle(tmp_path / "gone")
    with pytest.raises(BundleInvalid, match=r"model\.pt is a file, not a folder"):
        read_bundle(written.path / "model.pt")
    with pytest.raises(BundleInvalid, match=r"is no vitlet bundle: there is no manifest\.json in it"):
        read_bundle(tmp_path)
    for text in ('{"name": "web app"}', "[1, 2]", "null"):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(BundleInvalid, match="was written by something else"):
            read_bundle(tmp_path)
    for text in ("", "{", "[" * 100_000, "\xff"):
        (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
        with pytest.raises(BundleInvalid, match=r"manifest\.json is damaged"):
            read_bundle(tmp_path)


def test_newer_schema_says_upgrade(written: Bundle) -> None:
    # A newer layout may be unlike ours in everything but the version.
    (written.path / "manifest.json").write_text('{"kind": "vitlet-bundle", "schema_version": 2, "parts": []}')
    with pytest.raises(
        BundleInvalid, match=r"was written by a newer vitlet \(bundle schema 2, this one reads 1\); upgrade"
    ):
        read_bundle(written.path)


@pytest.mark.parametrize("version", [0, -1, "1", None, 1.5, [1]])
def test_senseless_schema_versions(written: Bundle, version: object) -> None:
    edit_manifest(written.path, lambda data: data.update(schema_version=version))
    with pytest.raises(BundleInvalid, match="the schema version"):
        read_bundle(written.path)


def test_fields_of_a_later_version_of_the_same_schema_are_ignored(written: Bundle) -> None:
    edit_manifest(written.path, lambda data: data.update(signature={"by": "somebody"}))
    assert read_bundle(written.path).manifest == written.manifest


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.pop("labels"), "missing required field `labels`"),
        (lambda m: m["labels"].pop(), "2 labels, an architecture of 3 classes"),
        (lambda m: m.update(labels="cat"), r"Expected `array`, got `str` - at `\$.labels`"),
        (lambda m: m["model"].update(height=384), r"images of \(224, 224\) pixels for a model file"),
        (lambda m: m.update(chosen=7), "chosen is 7"),
        (lambda m: m.update(baseline=-1), "baseline is -1"),
        (lambda m: m["architecture"].update(kind="resnet"), "architecture kind is 'resnet'"),
        (lambda m: m["architecture"].update(depth=10**9), "depth is 1000000000"),
        (lambda m: m["model"]["precision"].update(name="int3"), "Invalid enum value 'int3'"),
        (lambda m: m["measurements"][0].update(top1=3.0), "top1 is 3.0"),
        (lambda m: m["images"].update(labelled=99), "99 of 12 images"),
        (lambda m: m["images"].update(skipped_count=0), "1 images are named as skipped but 0 counted"),
        (lambda m: m["model"].update(file="other.pt"), r"names the model file 'other\.pt' but gives no hash"),
    ],
)
def test_manifest_that_contradicts_itself(written: Bundle, change: Callable[[dict], object], says: str) -> None:
    edit_manifest(written.path, change)
    with pytest.raises(BundleInvalid, match=says):
        read_bundle(written.path)


@pytest.mark.parametrize(
    "name",
    [
        "../outside.pt",
        "/etc/hostname",
        "a/b.pt",
        "..",
        ".",
        "",
        ".hidden",
        "a\\..\\b",
        "C:x",
        "a\nb",
        "x" * 200,
        "manifest.json",
    ],
)
def test_files_outside_the_folder_are_never_opened(written: Bundle, name: str) -> None:
    (written.path.parent / "outside.pt").write_bytes(written.artifact.path.read_bytes())

    def move(data: dict) -> None:
        data["files"][name] = data["files"].pop("model.pt")
        data["model"]["file"] = name

    edit_manifest(written.path, move)
    with pytest.raises(BundleInvalid, match="which is no plain file name"):
        read_bundle(written.path)


@pytest.mark.parametrize("name", ["model.pt", "manifest.json", "SHA256SUMS"])
def test_symbolic_links_are_refused_even_to_the_right_content(written: Bundle, tmp_path: Path, name: str) -> None:
    (written.path / name).rename(tmp_path / "elsewhere")
    (written.path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleInvalid, match=f"{name} is a symbolic link"):
        read_bundle(written.path)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", ["manifest.json", "SHA256SUMS", "model.pt"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_ordinary_file_neither_hangs_nor_passes(
    written: Bundle, make: Callable[[Path], object], name: str
) -> None:
    (written.path / name).unlink()
    make(written.path / name)
    with pytest.raises(BundleInvalid, match=f"{name} is no ordinary file"):
        read_bundle(written.path)


def test_oversized_manifest_is_not_swallowed(written: Bundle) -> None:
    with (written.path / "manifest.json").open("ab") as file:
        file.truncate(65 * 2**20)  # sparse
    with pytest.raises(BundleInvalid, match=r"manifest\.json is larger than 64 MiB"):
        read_bundle(written.path)


def test_moved_bundle_still_opens(written: Bundle, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    written.path.rename(moved)
    again = read_bundle(moved)
    assert again.manifest == written.manifest
    assert again.artifact.path == moved / "model.pt"


def test_manifest_of_a_timm_architecture(written: Bundle, tmp_path: Path, manifest: Manifest) -> None:
    from dataclasses import replace

    from vitlet.bundle.write import write_bundle
    from vitlet.records import TimmArchitecture

    opaque = TimmArchitecture("swin_tiny_patch4_window7_224", 3, 224, 224, {"img_size": 224})
    bundle = write_bundle(tmp_path / "swin", replace(manifest, architecture=opaque), written.artifact, {})
    assert read_bundle(bundle.path).manifest.architecture == opaque
