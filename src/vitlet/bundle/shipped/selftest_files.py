"""The files of a bundle, read by someone who trusts none of them: which are damaged, and what is in the others."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, Optional

import numpy as np

MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
_MOST_MANIFEST_BYTES = 64 * 2**20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SUMS_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")
#: What programs that look at a folder leave in it.
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", "__pycache__"})
#: A hash that differs from the right one in so few of its 64 digits was itself damaged; another file's differs in 60.
_FEW_DIGITS = 8
_MOST_THREADS = 1024


class Refused(Exception):
    """It is no bundle, or one that was made to do harm; the text says why, in a sentence."""


@dataclass(frozen=True)
class Files:
    """What was found: the ``manifest`` (``None`` if it cannot be read), the names of ``damaged`` files with what is
    wrong with each, in ``faults`` a sentence for each damage, in ``strangers`` names that are not the bundle's.
    """

    folder: Path
    manifest: Optional[Mapping[str, Any]]
    damaged: frozenset[str] = frozenset()
    faults: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()
    count: int = 0
    names: frozenset[str] = field(default_factory=frozenset)


def check_files(folder: Path) -> Files:
    """Hold every file against ``manifest.json`` and ``SHA256SUMS``, and these two against each other.

    Raises:
        Refused: it is no bundle, or names files outside of its folder.
    """
    if not folder.is_dir():
        raise Refused(f"{folder} is no folder; give the folder that `vitlet compress` wrote")
    if not (folder / MANIFEST).exists() and not (folder / SUMS).exists():
        raise Refused(f"{folder} is no vitlet bundle: there is no {MANIFEST} in it")
    faults: list[str] = []
    raw, sums_raw = _content(folder, MANIFEST, faults), _content(folder, SUMS, faults)
    manifest = None if raw is None else _parsed(raw, faults)
    sums = {} if sums_raw is None else _sums(sums_raw)
    stated = {} if manifest is None else _stated(manifest)
    if raw is not None and sums_raw is not None:
        faults += _disagreement(raw, manifest is not None, sums, stated)
    damaged = {name for name in (MANIFEST, SUMS) if any(fault.startswith(name) for fault in faults)}
    names = {*sums, *stated} - {MANIFEST}
    odd = sorted(name for name in names if not is_plain(name))
    if odd and not damaged:
        raise Refused(f"{folder} names the file {odd[0]!r}, which is no plain name in its own folder; do not use it")
    for name in sorted(names.difference(odd)):
        wanted = [h for h in (stated.get(name), sums.get(name)) if h]
        fault = _fault(folder, name, wanted)
        if fault and ((MANIFEST in damaged and name not in sums) or (SUMS in damaged and name not in stated)):
            continue  # a name that only the changed list knows
        if fault:
            damaged.add(name)
            faults.append(fault)
    known = {*names.difference(odd), MANIFEST, SUMS}
    strangers = tuple(sorted(e.name for e in folder.iterdir() if e.name not in known | _LITTER))
    return Files(folder, manifest, frozenset(damaged), tuple(faults), strangers, len(known), frozenset(known))


def _content(folder: Path, name: str, faults: list[str]) -> Optional[bytes]:
    try:
        with open_ordinary(folder, name) as file:
            raw = file.read(_MOST_MANIFEST_BYTES + 1)
    except ValueError as error:
        faults.append(str(error))
        return None
    if len(raw) > _MOST_MANIFEST_BYTES:
        raise Refused(f"{name} is larger than {_MOST_MANIFEST_BYTES // 2**20} MiB, which no bundle needs")
    return raw


def _parsed(raw: bytes, faults: list[str]) -> Optional[Mapping[str, Any]]:
    try:
        manifest = json.loads(raw)
    except (ValueError, RecursionError):
        faults.append(f"{MANIFEST} is damaged: it is no JSON any more")
        return None
    if not isinstance(manifest, dict) or manifest.get("kind") != "vitlet-bundle":
        faults.append(f"{MANIFEST} is damaged, or was not written by vitlet: it does not say that it is a bundle's")
        return None
    return manifest


def _sums(raw: bytes) -> dict[str, str]:
    lines = raw.decode("utf-8", "replace").splitlines()
    found = [_SUMS_LINE.fullmatch(line) for line in lines]
    return {match[2]: match[1] for match in found if match}


def _stated(manifest: Mapping[str, Any]) -> dict[str, str]:
    files = manifest.get("files")
    entries = files.items() if isinstance(files, dict) else ()
    return {name: str(entry.get("sha256")) for name, entry in entries if isinstance(entry, dict)}


def _disagreement(raw: bytes, is_readable: bool, sums: dict[str, str], stated: dict[str, str]) -> list[str]:
    """Which of the two lists was changed, if they do not say the same."""
    digest = hashlib.sha256(raw).hexdigest()
    listed = {name: value for name, value in sums.items() if name != MANIFEST}
    if sums.get(MANIFEST) == digest:
        return [] if listed == stated else [f"{SUMS} was changed: it does not say what {MANIFEST} says"]
    if not is_readable:
        return []  # that was told already
    if listed == stated and (MANIFEST not in sums or _digits_apart(sums[MANIFEST], digest) <= _FEW_DIGITS):
        return [f"{SUMS} was changed: its line for {MANIFEST} is damaged"]
    return [f"{MANIFEST} was changed since the bundle was written"]


def check_manifest(files: Files) -> Mapping[str, Any]:
    """The manifest, if it has all that the checks read of it.

    Raises:
        Refused: it has not.
    """
    manifest = files.manifest or {}
    model, recipe, environment = (_object(manifest, name) for name in ("model", "recipe", "environment"))
    companions = model.get("companions", [])
    rows, chosen, threads = manifest.get("measurements"), manifest.get("chosen"), recipe.get("threads")
    labels = manifest.get("labels")
    if not isinstance(companions, list) or not all(re.fullmatch(r"\.\w+", str(suffix)) for suffix in companions):
        raise Refused(f"{MANIFEST} names companions of the model file that are no suffixes")
    if not {str(model.get("file")), *_companions(model)} <= files.names:
        raise Refused(f"{MANIFEST} names a model file that is none of the bundle's files")
    if not isinstance(threads, int) or not 1 <= threads <= _MOST_THREADS:
        raise Refused(f"{MANIFEST} says {threads!r} threads; it must be 1 to {_MOST_THREADS}")
    if not isinstance(rows, list) or not isinstance(chosen, int) or not 0 <= chosen < len(rows):
        raise Refused(f"{MANIFEST} does not say which measurement is the bundle's")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise Refused(f"{MANIFEST} has no list of labels")
    _object(environment, "packages"), _object(model, "precision")
    return manifest


def model_files(manifest: Mapping[str, Any]) -> frozenset[str]:
    """The names of the files that the runtime opens."""
    return frozenset({str(manifest["model"]["file"]), *_companions(manifest["model"])})


def _companions(model: Mapping[str, Any]) -> list[str]:
    stem = str(model.get("file")).rpartition(".")[0]
    return [stem + suffix for suffix in model.get("companions", [])]


def _object(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = parent.get(name)
    if not isinstance(value, dict):
        raise Refused(f"{MANIFEST} has no object {name!r}")
    return value


def _digits_apart(one: str, other: str) -> int:
    return sum(a != b for a, b in zip(one, other))


def _fault(folder: Path, name: str, wanted: list[str]) -> str:
    """What is wrong with a file that must have one of these hashes; empty if nothing."""
    try:
        with open_ordinary(folder, name) as file:
            digest = hashlib.sha256()
            while chunk := file.read(2**20):
                digest.update(chunk)
    except ValueError as error:
        return str(error)
    return "" if digest.hexdigest() in wanted else f"{name} is damaged: its bytes are not those that were written"


def is_plain(name: object) -> bool:
    """Whether a name can only mean a file in the bundle's own folder, on any system."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and name not in (MANIFEST, SUMS)


def open_ordinary(folder: Path, name: str) -> BufferedReader:
    """Open a file of the folder, but no link out of it and nothing that would block (a FIFO, a device).

    Raises:
        ValueError: it is missing, no ordinary file, or cannot be read; says which.
    """
    flags = os.O_RDONLY
    for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # each is missing on some system
        flags |= getattr(os, flag, 0)
    try:
        descriptor = os.open(folder / name, flags)
    except FileNotFoundError:
        raise ValueError(f"{name} is missing") from None
    except OSError as error:
        why = "is a symbolic link, and a bundle holds its files itself" if error.errno == errno.ELOOP else None
        raise ValueError(f"{name} {why or f'cannot be read: {error.strerror}'}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{name} is no ordinary file")
    return os.fdopen(descriptor, "rb")


def read_array(folder: Path, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array of exactly this shape from a ``.npy`` file. Nothing is unpickled, and no more is read than that.

    Raises:
        ValueError: it is missing, or holds something else.
    """
    with open_ordinary(folder, name) as file:
        found, fortran, dtype = _header(file, name)
        if found != shape or dtype != np.dtype("<f4") or fortran:
            raise ValueError(f"{name} holds {dtype} {list(found)}; it must be float32 {list(shape)}")
        size = 4 * int(np.prod(shape))
        content = file.read(size + 1)
    if len(content) != size:
        raise ValueError(f"{name} is cut short or too long")
    array = np.frombuffer(content, "<f4").astype(np.float32).reshape(shape)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds values that are not finite")
    return array


def _header(file: BufferedReader, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("another version")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception:  # a hostile header raises nearly anything
        raise ValueError(f"{name} is no array file of numpy's (.npy, version 1.0)") from None
    return shape, fortran, dtype
