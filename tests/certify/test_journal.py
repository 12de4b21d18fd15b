"""What a search keeps on disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vitlet.certify.journal import Journal, Trial, open_journal, state_folder
from vitlet.errors import NotWritable, OutputExists, OverBudget
from vitlet.records import Artifact, Measurement, Precision

ABOUT = {"weights": "abc", "limits": {"maximum_drop": 0.01}}


def trial(folder: Path, **more: object) -> Trial:
    path = folder / "lite.bin"
    path.write_bytes(b"model")
    artifact = Artifact("lite", Precision("fp32"), path, 5, height=8, width=8, classes=10)
    return Trial(artifact=artifact, ratio=0.25, **more)


def begun(folder: Path, about: dict[str, object] | None = None) -> Journal:
    journal = Journal(folder)
    journal.begin(about or ABOUT)
    return journal


def test_what_was_recorded_is_recalled(tmp_path):
    absent = Trial(row=Measurement("lite", "int8-dynamic", "unsupported", "not here"))
    journal = begun(tmp_path)
    journal.record("lite fp32", trial(tmp_path))
    journal.record("lite int8-dynamic", absent)
    journal.record("lite fp16", Trial(row=Measurement("lite", "fp16", "failed", "the disk is full")))
    again = begun(tmp_path)
    assert again.recall("lite fp32") == trial(tmp_path)
    assert again.recall("lite int8-dynamic") == absent
    assert again.recall("lite fp16") is None  # there may be room now
    assert again.recall("lite bf16") is None


def test_what_was_recorded_last_counts(tmp_path):
    journal = begun(tmp_path)
    journal.record("lite fp32", trial(tmp_path))
    journal.record("lite fp32", trial(tmp_path, asked=True))
    assert begun(tmp_path).recall("lite fp32") == trial(tmp_path, asked=True)


@pytest.mark.parametrize("content", [None, b"mod"])
def test_a_file_that_is_gone_or_cut_short_is_exported_again(tmp_path, content):
    begun(tmp_path).record("lite fp32", trial(tmp_path))
    (tmp_path / "lite.bin").unlink()
    if content is not None:
        (tmp_path / "lite.bin").write_bytes(content)
    assert begun(tmp_path).recall("lite fp32") is None


def test_of_what_is_ruled_out_no_file_is_needed(tmp_path):
    journal = begun(tmp_path)
    found = trial(tmp_path, fault="it lost 30 of 60 images")
    journal.record("lite fp32", found)
    (tmp_path / "lite.bin").unlink()
    assert begun(tmp_path).recall("lite fp32") == found


def test_a_line_that_was_cut_short_does_not_spoil_those_after_it(tmp_path):
    begun(tmp_path).record("lite fp32", trial(tmp_path))
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"variant": "lite bf1')
    journal = begun(tmp_path)
    assert journal.recall("lite fp32") == trial(tmp_path)
    journal.record("lite int8-dynamic", Trial(row=Measurement("lite", "int8-dynamic", "unsupported", "not here")))
    again = begun(tmp_path)
    assert again.recall("lite fp32") is not None
    assert again.recall("lite int8-dynamic") is not None


@pytest.mark.parametrize("line", [b"[]", b"{}", b'{"variant": "lite fp32", "trial": {"ratio": "fast"}}', b"\xff"])
def test_a_line_that_is_none_is_passed_over(tmp_path, line):
    begun(tmp_path)
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(line + b"\n")
    assert begun(tmp_path).recall("lite fp32") is None


def test_another_search_begins_anew(tmp_path):
    begun(tmp_path).record("lite fp32", trial(tmp_path))
    (tmp_path / "folder").mkdir()
    other = begun(tmp_path, {**ABOUT, "weights": "def"})
    assert other.recall("lite fp32") is None
    assert [path.name for path in tmp_path.iterdir()] == ["journal.jsonl"]
    assert begun(tmp_path).recall("lite fp32") is None


def test_paths_lead_nowhere_else(tmp_path):
    """A journal that somebody else wrote may name any file: one in its own folder is meant."""
    begun(tmp_path).record("lite fp32", trial(tmp_path))
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(str(tmp_path).encode(), b"/etc"))
    found = begun(tmp_path).recall("lite fp32")
    assert found is not None
    assert found.artifact is not None
    assert found.artifact.path == tmp_path / "lite.bin"


def cut_short(folder: Path, how: BaseException, *, tried: bool) -> None:
    with open_journal(folder) as journal:
        journal.begin(ABOUT)
        if tried:
            journal.record("lite fp32", trial(folder))
        raise how


def test_the_folder_stays_only_if_there_is_something_to_go_on_from(tmp_path):
    folder = tmp_path / "out.search"
    with pytest.raises(KeyboardInterrupt):
        cut_short(folder, KeyboardInterrupt(), tried=False)
    assert not folder.exists()
    with pytest.raises(KeyboardInterrupt):
        cut_short(folder, KeyboardInterrupt(), tried=True)
    assert folder.exists()
    with pytest.raises(ValueError, match="before it began"), open_journal(folder):
        raise ValueError("before it began")
    assert folder.exists()
    with open_journal(folder) as journal:
        journal.begin(ABOUT)
        assert journal.recall("lite fp32") is not None
    assert not folder.exists()
    with pytest.raises(OverBudget):
        cut_short(folder, OverBudget("nothing will do", None), tried=True)
    assert folder.exists()  # for other limits


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(OutputExists, match="is not of an earlier search"), open_journal(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine" / "notes.txt").exists()
    (tmp_path / "mine" / "notes.txt").rename(tmp_path / "mine" / "journal.jsonl")
    (tmp_path / "mine" / "journal.jsonl").write_text('{"my": "notes"}\n')
    with pytest.raises(OutputExists, match="is not of an earlier search"), open_journal(tmp_path / "mine"):
        pass
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    with pytest.raises(OutputExists, match="is not of an earlier search"), open_journal(tmp_path / "link"):
        pass
    with pytest.raises(NotWritable, match="cannot be written"), open_journal(tmp_path / "no" / "folder"):
        pass


@pytest.mark.parametrize(
    ("out", "name"),
    [("b.vitlet", "b.vitlet.search"), (".", "here.search"), ("x/..", "here.search"), ("x/", "x.search")],
)
def test_the_state_lies_beside_the_bundle(tmp_path, monkeypatch, out, name):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert state_folder(Path(out)).name == name


@pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")
def test_two_processes_do_not_share_one(tmp_path):
    script = (
        "import sys; from pathlib import Path; from vitlet.certify.journal import open_journal\n"
        "with open_journal(Path(sys.argv[1])): print('held', flush=True); sys.stdin.readline()"
    )
    arguments = [sys.executable, "-c", script, str(tmp_path / "out.search")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OutputExists, match="another process is at work"), open_journal(tmp_path / "out.search"):
            pass
        holder.kill()
    with open_journal(tmp_path / "out.search"):
        pass
