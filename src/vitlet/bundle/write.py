"""Write a bundle: the whole folder or nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from vitlet.bundle.folder import exists, place_folder, try_folder
from vitlet.bundle.manifest import FileHash, Manifest, ModelFile, manifest_to_bytes
from vitlet.bundle.read import (
    MANIFEST,
    SUMS,
    Bundle,
    decode_manifest,
    plain_file_name,
    read_bundle,
    read_limited,
    sums_text,
)
from vitlet.errors import BundleInvalid, InvalidValue, NotWritable, OutputExists
from vitlet.records import Artifact

#: What file managers drop into any folder that a person looks at.
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", "__pycache__"})

_REASONS = {
    errno.EACCES: "there is no permission to write in {parent}; choose another --out or change its permissions",
    errno.EPERM: "there is no permission to write in {parent}; choose another --out or change its permissions",
    errno.EROFS: "the file system is read-only; choose another --out",
    errno.ENOSPC: "the disk is full; free some space or choose another --out",
    errno.EDQUOT: "your disk quota is used up; free some space or choose another --out",
    errno.EFBIG: "the model file is larger than this file system or `ulimit -f` allows; choose another --out",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter --out",
    errno.ENOTDIR: "{parent} is not a folder; choose another --out",
    errno.ENOENT: "the folder {parent} does not exist; make it first",
    errno.EBUSY: "it is a mount point or in use; give a new folder inside it as --out",
}


def check_writable(path: Path, *, overwrite: bool = False) -> None:
    """Refuse before a long job begins what could not be written at its end.

    Makes and removes a folder beside ``path``, and clears what killed writers of it left there.

    Raises:
        OutputExists: something is there, and either ``overwrite`` is false or it is not all vitlet's.
        NotWritable: no such parent folder, no permission, a read-only or full disk.
    """
    target = _absolute(path)
    try:
        try_folder(target)
        if exists(target):
            _refuse_unless_replaceable(path, target, overwrite)
            if target.is_mount():
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
    except OSError as error:
        raise _not_writable(path, target, error) from error


def write_bundle(
    path: Path, manifest: Manifest, artifact: Artifact, pages: Mapping[str, str | bytes], *, overwrite: bool = False
) -> Bundle:
    """Write the folder ``path`` with the artifact's files, the ``pages`` (name -> text or bytes, such as
    "report.html"), ``manifest.json`` and ``SHA256SUMS``, and return it as a reader will get it.

    ``manifest.files`` is filled in here. The folder appears only when it is complete, on the disk
    and verified; whatever interrupts the writing leaves nothing at ``path``, or what was there.
    ``overwrite`` replaces an earlier bundle or an empty folder, never anything else.

    Raises:
        OutputExists: something is there, and either ``overwrite`` is false or it is not all vitlet's.
        NotWritable: no such parent folder, no permission, a read-only or full disk.
        InvalidValue: the manifest does not describe this artifact, or a page's name is unfit.
    """
    target = _absolute(path)
    _check_parts(manifest, artifact, pages)

    def fill(folder: Path) -> Bundle:
        files = {}
        for source, name in zip(artifact.files, manifest.model.names, strict=True):
            with source.open("rb") as model:
                files[name] = _store(model, folder / name)
        for name, page in pages.items():
            # A lone surrogate (a file name that is no UTF-8) cannot be encoded otherwise.
            content = page.encode("utf-8", "backslashreplace") if isinstance(page, str) else page
            files[name] = _store(BytesIO(content), folder / name)
        raw = manifest_to_bytes(replace(manifest, files=files))
        _store(BytesIO(raw), folder / MANIFEST)
        _store(BytesIO(sums_text(raw, files)), folder / SUMS)
        return read_bundle(folder)

    try:
        bundle = place_folder(
            target, fill, replaceable=lambda found: _refuse_unless_replaceable(path, found, overwrite)
        )
    except FileExistsError as error:
        raise OutputExists(f"{path} was taken by another process meanwhile; give another --out") from error
    except OSError as error:
        raise _not_writable(path, target, error) from error
    return Bundle(path, bundle.manifest, replace(bundle.artifact, path=path / bundle.artifact.path.name))


def _absolute(path: Path) -> Path:
    """The path from the root, a last symbolic link kept as itself."""
    if "\0" in str(path):
        raise NotWritable(f"the output path {str(path)!r} holds a NUL character; choose another --out")
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.resolve would follow the link


def _check_parts(manifest: Manifest, artifact: Artifact, pages: Mapping[str, str | bytes]) -> None:
    described = ModelFile.of(artifact)
    if manifest.model != described:
        raise InvalidValue(f"the manifest describes the model file {manifest.model} and not {described}")
    for name in (*described.names, *pages):
        if not plain_file_name(name):
            raise InvalidValue(f"{name!r} cannot be a file of a bundle; use letters, digits, dot, dash, underscore")
        if name in pages and name in described.names:
            raise InvalidValue(f"the page {name!r} has the name of the model file")
    for file in artifact.files:
        if not file.is_file():
            raise InvalidValue(f"{file} of the artifact is not there or not a single file, so it cannot be bundled")
    size = sum(file.stat().st_size for file in artifact.files)
    if size != artifact.size_bytes:
        raise InvalidValue(f"the artifact {artifact.path} has {size} bytes, not {artifact.size_bytes}: it was changed")


def _store(source: BinaryIO, file: Path) -> FileHash:
    """Write a new file, bring it to the disk, and say what was written."""
    with file.open("xb") as out:
        shutil.copyfileobj(source, out, 1024 * 1024)
        out.flush()
        os.fsync(out.fileno())
    with file.open("rb") as written:
        return FileHash(hashlib.file_digest(written, "sha256").hexdigest(), file.stat().st_size)


def _refuse_unless_replaceable(path: Path, target: Path, overwrite: bool) -> None:
    """Raise ``OutputExists`` unless ``target`` is an empty folder or holds only what vitlet wrote,
    and may be replaced.
    """
    foreign = None if target.is_symlink() else _foreign(target)
    if foreign is None:
        raise OutputExists(f"{path} exists and is no vitlet bundle, so it will not be replaced; give another --out")
    if foreign:
        raise OutputExists(
            f"{path} exists and holds {sorted(foreign)[0]!r}, which vitlet did not write, so it will not be "
            "replaced; give another --out"
        )
    if not overwrite:
        raise OutputExists(f"{path} exists; give another --out, or --overwrite to replace it")


def _foreign(target: Path) -> set[str] | None:
    """The names in a bundle's folder that are not the bundle's; None if it is no bundle at all."""
    if not target.is_dir():
        return None
    entries = {entry.name: entry for entry in target.iterdir()}
    if not entries.keys() - _LITTER:
        return set()
    try:
        files = decode_manifest(target, read_limited(target, MANIFEST)).get("files")
    except BundleInvalid:
        return None
    ours = {MANIFEST, SUMS, *_LITTER, *(files if isinstance(files, dict) else ())}
    return {name for name, entry in entries.items() if name not in ours or _is_foreign_folder(entry)}


def _is_foreign_folder(entry: Path) -> bool:
    """Whether it is a folder, but not what Python leaves beside the bundle's own modules."""
    if not entry.is_dir() or entry.is_symlink():
        return False
    return entry.name != "__pycache__" or any(file.suffix != ".pyc" for file in entry.iterdir())


def _not_writable(path: Path, target: Path, error: OSError) -> NotWritable:
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return NotWritable(f"cannot write {path}: {reason.format(parent=target.parent)}")
