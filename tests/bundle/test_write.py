from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vitlet.bundle.manifest import Manifest
from vitlet.bundle.read import Bundle, read_bundle
from vitlet.bundle.write import check_writable, write_bundle
from vitlet.errors import InvalidValue, NotWritable, OutputExists
from vitlet.records import Artifact


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_bundle_holds_model_manifest_pages_and_sums_and_nothing_is_beside_it(
    written: Bundle, artifact: Artifact
) -> None:
    assert names(written.path) == {"model.pt", "manifest.json", "report.html", "SHA256SUMS"}
    assert names(written.path.parent) == {"deit.vitlet"}
    assert written.artifact.path == written.path / "model.pt"
    assert written.artifact.path.read_bytes() == artifact.path.read_bytes()


def test_writer_returns_what_a_reader_gets(written: Bundle, manifest: Manifest) -> None:
    again = read_bundle(written.path)
    assert again == written
    assert replace(again.manifest, files={}) == manifest
    assert again.manifest.measurements[0].latency_samples_ms == ((79.1, 79.4), (80.0, 78.9))


def test_modes_come_from_the_umask(tmp_path: Path, rewrite: Callable[..., Bundle]) -> None:
    former = os.umask(0o027)
    try:
        bundle = rewrite(tmp_path / "strict.vitlet")
    finally:
        os.umask(former)
    assert stat.S_IMODE(bundle.path.stat().st_mode) == 0o750
    assert {stat.S_IMODE(file.stat().st_mode) for file in bundle.path.iterdir()} == {0o640}


def test_relative_path_and_trailing_dots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rewrite: Callable[..., Bundle]
) -> None:
    monkeypatch.chdir(tmp_path)
    rewrite(Path("here.vitlet"))
    rewrite(Path("out/../there.vitlet"))
    assert read_bundle(tmp_path / "here.vitlet").manifest == read_bundle(tmp_path / "there.vitlet").manifest


def test_file_names_that_are_no_utf8_do_not_stop_the_writing(written: Bundle, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")  # how Linux hands over a Latin-1 file name
    manifest = replace(
        written.manifest, labels=(name, "dog", "duck"), recipe=replace(written.manifest.recipe, command=name)
    )
    bundle = write_bundle(tmp_path / "latin.vitlet", manifest, written.artifact, {"report.html": f"<p>{name}"})
    assert bundle.manifest.labels[0] == "caf\\udce9.jpg"
    assert "caf\\udce9.jpg" in (bundle.path / "report.html").read_text("utf-8")


# An output that exists


@pytest.mark.parametrize("call", ["check", "write"])
def test_existing_bundle_needs_overwrite(written: Bundle, rewrite: Callable[..., Bundle], call: str) -> None:
    with pytest.raises(OutputExists, match=r"deit\.vitlet exists; give another --out, or --overwrite to replace it$"):
        rewrite(written.path) if call == "write" else check_writable(written.path)
    check_writable(written.path, overwrite=True)
    rewrite(written.path, overwrite=True, sentences=("new",))
    assert read_bundle(written.path).manifest.sentences == ("new",)
    assert names(written.path.parent) == {"deit.vitlet"}


def test_damaged_bundle_and_empty_folder_may_be_overwritten(
    written: Bundle, tmp_path: Path, rewrite: Callable[..., Bundle]
) -> None:
    (written.path / "report.html").write_text("changed")
    (written.path / ".DS_Store").write_bytes(b"litter")
    empty = tmp_path / "empty"
    empty.mkdir()
    source = rewrite(tmp_path / "source.vitlet")
    for target in (empty, written.path):
        write_bundle(target, source.manifest, source.artifact, {}, overwrite=True)
        assert names(read_bundle(target).path) == {"model.pt", "manifest.json", "SHA256SUMS"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("call", ["check", "write"])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: p.write_text("my notes"), "exists and is no vitlet bundle"),
        (lambda p: (p.mkdir(), (p / "thesis.tex").write_text("x")), "exists and is no vitlet bundle"),
        (lambda p: (p.mkdir(), (p / "manifest.json").write_text('{"name": "web app"}')), "is no vitlet bundle"),
        (lambda p: (p.mkdir(), (p / "manifest.json").write_text("{")), "is no vitlet bundle"),
        (lambda p: (p.mkdir(), os.mkfifo(p / "manifest.json")), "is no vitlet bundle"),
        (lambda p: p.symlink_to("nowhere"), "is no vitlet bundle"),
        (lambda p: p.symlink_to("out/deit.vitlet"), "is no vitlet bundle"),
    ],
    ids=["file", "folder", "other manifest", "broken manifest", "fifo", "dangling link", "link to a bundle"],
)
def test_nothing_but_a_bundle_is_ever_replaced(
    tmp_path: Path,
    rewrite: Callable[..., Bundle],
    make: Callable[[Path], object],
    says: str,
    call: str,
    overwrite: bool,
) -> None:
    target = tmp_path / "taken"
    make(target)
    before = (target.lstat().st_ino, target.lstat().st_mtime_ns)
    with pytest.raises(OutputExists, match=says):
        rewrite(target, overwrite=overwrite) if call == "write" else check_writable(target, overwrite=overwrite)
    assert (target.lstat().st_ino, target.lstat().st_mtime_ns) == before
    assert not [name for name in names(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("extra", ["notes.txt", "figures"])
def test_bundle_with_somebodys_files_is_not_replaced(
    written: Bundle, rewrite: Callable[..., Bundle], extra: str
) -> None:
    path = written.path / extra
    path.mkdir() if extra == "figures" else path.write_text("mine")
    with pytest.raises(OutputExists, match=f"holds '{extra}', which vitlet did not write"):
        check_writable(written.path, overwrite=True)
    with pytest.raises(OutputExists, match=f"holds '{extra}', which vitlet did not write"):
        rewrite(written.path, overwrite=True)
    assert path.exists()
    assert read_bundle(written.path) == written


# Where nothing can be written


@pytest.mark.parametrize("call", ["check", "write"])
@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("missing/x.vitlet", r"the folder .*/missing does not exist; make it first$"),
        ("file/x.vitlet", r"/file is not a folder; choose another --out$"),
        ("file/deeper/x.vitlet", r"/file/deeper is not a folder"),
        ("n" * 250, "the name is too long; choose a shorter --out$"),
        ("nul\0.vitlet", "holds a NUL character"),
    ],
)
def test_one_sentence_for_each_place_that_cannot_be_written(
    tmp_path: Path, rewrite: Callable[..., Bundle], where: str, says: str, call: str
) -> None:
    (tmp_path / "file").write_text("")
    before = names(tmp_path)
    with pytest.raises(NotWritable, match=says):
        rewrite(tmp_path / where) if call == "write" else check_writable(tmp_path / where)
    assert names(tmp_path) == before


def test_check_writable_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "x.vitlet")
    assert names(tmp_path) == set()


# What a caller may get wrong


@pytest.mark.parametrize(
    "name", ["../escape.html", "/tmp/x.html", "sub/page.html", ".hidden", "", "manifest.json", "SHA256SUMS"]
)
def test_page_names_stay_in_the_folder(written: Bundle, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidValue, match="cannot be a file of a bundle"):
        write_bundle(tmp_path / "x", written.manifest, written.artifact, {name: "text"})
    assert not (tmp_path / "x").exists()


def test_page_cannot_take_the_models_name(written: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"the page 'model\.pt' has the name of the model file"):
        write_bundle(tmp_path / "x", written.manifest, written.artifact, {"model.pt": "text"})


def test_manifest_must_describe_the_artifact(written: Bundle, tmp_path: Path) -> None:
    other = replace(written.artifact, engine="lite")
    with pytest.raises(InvalidValue, match="the manifest describes the model file"):
        write_bundle(tmp_path / "x", written.manifest, other, {})


def test_artifact_must_be_one_whole_file(written: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="has 307200 bytes, not 307201"):
        write_bundle(tmp_path / "x", written.manifest, replace(written.artifact, size_bytes=307201), {})
    with pytest.raises(InvalidValue, match="is not there or not a single file"):
        write_bundle(tmp_path / "x", written.manifest, replace(written.artifact, path=tmp_path / "gone.pt"), {})
