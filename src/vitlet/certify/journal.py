"""What a search has found so far, on disk, so that one that was cut short goes on where it was.

A folder with the exported files and a journal of one JSON line for each variant that was tried, each brought to the
disk before the next is begun. The first line is what the search was about: whoever comes with another model, other
images, limits or versions begins anew.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from vitlet.errors import InvalidValue, NotWritable, OutputExists
from vitlet.records import Artifact, Measurement, Precision, from_json, to_json

_NAME = "journal.jsonl"
#: In the first line of a journal; nothing is removed from a folder without it.
_KIND = "vitlet search 1"


@dataclass(frozen=True)
class Trial:
    """What became of a variant that was tried: a ``row`` if it cannot be had; else the ``artifact``, how long it took
    in a first look as a ``ratio`` to the baseline (``None``: it was not timed), and the memory it took.

    ``asked`` says whether its answers were looked at, ``fault`` why these rule it out, if they do.
    """

    row: Measurement | None = None
    artifact: Artifact | None = None
    ratio: float | None = None
    memory_bytes: int | None = None
    asked: bool = False
    fault: str = ""


class Journal:
    """The journal of a search in ``folder``, as ``open_journal`` gives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._trials: dict[str, Trial] = {}

    @property
    def is_begun(self) -> bool:
        """Whether it tells of any variant; also of an earlier search, while this one has not begun."""
        lines, _ = self._lines()
        return len(lines) > 1

    def begin(self, about: Mapping[str, Any]) -> None:
        """Say what the search is about; what was found by one about something else is removed.

        Raises:
            NotWritable: the folder cannot be written.
        """
        lines, whole_bytes = self._lines()
        # As it will be read again: with lists for tuples.
        first = msgspec.json.decode(msgspec.json.encode({"kind": _KIND, "about": to_json(dict(about))}))
        with _writing(self.folder):
            if lines and lines[0] == first:
                os.truncate(self.folder / _NAME, whole_bytes)
                self._trials = {name: trial for name, trial in map(self._trial, lines[1:]) if trial is not None}
                return
            for entry in self.folder.iterdir():
                if entry.name != _NAME:
                    shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            (self.folder / _NAME).write_bytes(b"")
        self._append(first)

    def recall(self, variant: str, precision: Precision | None = None) -> Trial | None:
        """What became of a variant, if it was tried before (in this very ``precision``) and its files are still there.
        What failed is tried again: the disk or the memory may have been full."""
        trial = self._trials.get(variant)
        if trial is not None and trial.artifact is not None and precision not in (None, trial.artifact.precision):
            return None
        if trial is None or (trial.row is not None and trial.row.status == "failed"):
            return None
        if trial.artifact is None or trial.fault:
            return trial
        sizes = [file.stat().st_size for file in trial.artifact.files if file.is_file()]
        return trial if len(sizes) == len(trial.artifact.files) and sum(sizes) == trial.artifact.size_bytes else None

    def record(self, variant: str, trial: Trial) -> None:
        """Remember what became of a variant.

        Raises:
            NotWritable: the disk is full, or the like.
        """
        self._trials[variant] = trial
        self._append({"variant": variant, "trial": to_json(trial)})

    def _append(self, line: object) -> None:
        with _writing(self.folder), (self.folder / _NAME).open("ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> tuple[list[Any], int]:
        """Those that are whole, and their bytes: the last one may have been cut short."""
        lines, whole_bytes = [], 0
        with suppress(OSError, msgspec.DecodeError):
            for line in (self.folder / _NAME).read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    lines.append(msgspec.json.decode(line))
                    whole_bytes += len(line)
        return lines, whole_bytes

    def _trial(self, line: Any) -> tuple[str, Trial | None]:
        try:
            trial = from_json(line["trial"], Trial)
        except (InvalidValue, KeyError, TypeError):
            return "", None
        if trial.artifact is not None:  # the folder may have been moved, and nothing outside it is meant
            trial = replace(trial, artifact=replace(trial.artifact, path=self.folder / trial.artifact.path.name))
        return str(line["variant"]), trial


def state_folder(out: Path) -> Path:
    """Where the search for the bundle ``out`` keeps its journal: beside it."""
    target = Path(os.path.abspath(out))  # noqa: PTH100 - Path.resolve would follow a link at the end
    return target.with_name(f"{target.name}.search")


@contextmanager
def open_journal(folder: Path) -> Iterator[Journal]:
    """Make or open the journal in ``folder`` and hold it. At the end the folder is removed, unless the search was cut
    short, or found nothing within the limits, and there is something to go on from.

    Raises:
        OutputExists: the folder is no journal's, or another process holds it.
        NotWritable: it cannot be made.
    """
    with _writing(folder):
        folder.mkdir(exist_ok=True)
        _refuse_what_is_not_ours(folder)
        (folder / _NAME).touch()
    with _held(folder / _NAME):
        journal, is_done = Journal(folder), False
        try:
            yield journal
            is_done = True
        finally:
            if is_done or not journal.is_begun:
                shutil.rmtree(folder, ignore_errors=True)


def _refuse_what_is_not_ours(folder: Path) -> None:
    lines, _ = Journal(folder)._lines()
    is_ours = bool(lines) and isinstance(lines[0], dict) and lines[0].get("kind") == _KIND
    is_new = all(entry.name == _NAME and not entry.stat().st_size for entry in folder.iterdir())
    if folder.is_symlink() or not (is_ours or is_new):
        raise OutputExists(f"{folder} is not of an earlier search; move it away or give another --out")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Tell what the system refuses as an error of ours."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotWritable(f"{folder} cannot be written: {reason}; free some space or give another --out") from error


@contextmanager
def _held(file: Path) -> Iterator[None]:
    """Hold the file's lock, which dies with the process."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    taken = OutputExists(f"another process is at work in {file.parent}; wait for it or give another --out")
    try:
        held = file.open("rb")
    except OSError as error:  # another process has just ended, and removed it
        raise taken from error
    with held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise taken from error
        except OSError:  # no locks on this file system
            pass
        yield
