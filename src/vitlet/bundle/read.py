"""Open a bundle, having verified that it is whole, unchanged and nothing but itself."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import msgspec

from vitlet.bundle.manifest import SCHEMA_VERSION, FileHash, Manifest, manifest_from_json
from vitlet.errors import BundleInvalid, InvalidValue
from vitlet.records import Artifact

MANIFEST = "manifest.json"
#: In the format of the ``sha256sum`` tool, so that a bundle can be verified without vitlet.
SUMS = "SHA256SUMS"
#: Raw latency samples of a hundred variants and a million labels are about half of this.
MANIFEST_LIMIT_BYTES = 64 * 2**20

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: its folder, what it says of itself, and the model file in it."""

    path: Path
    manifest: Manifest
    artifact: Artifact


def is_bundle(path: Path) -> bool:
    """Whether this looks like a bundle: a folder with a ``manifest.json``. Whether it is a sound one
    is for ``read_bundle`` to say.
    """
    try:
        return (path / MANIFEST).is_file()
    except OSError:
        return False


def read_bundle(path: Path) -> Bundle:
    """Open the bundle in the folder ``path``. Nothing in it is run or unpickled.

    The schema version, the manifest, every file's size and SHA-256 are verified; files must lie in
    the folder itself and be ordinary files, not symbolic links. The hashes show damage; they do not
    show who made the bundle.

    Raises:
        BundleInvalid: it is no bundle, a newer vitlet wrote it, or a file is missing, damaged or hostile.
    """
    if not path.is_dir():
        kind = "a file, not a folder" if path.exists() else "not there"
        raise BundleInvalid(f"{path} is {kind}; a bundle is the folder that `vitlet compress --out` wrote")
    raw = read_limited(path, MANIFEST)
    manifest = _parse(path, raw)
    for name in manifest.files:
        if not plain_file_name(name):
            raise BundleInvalid(f"{path}: the manifest names the file {name!r}, which is no plain file name")
    if read_limited(path, SUMS) != sums_text(raw, manifest.files):
        raise BundleInvalid(f"{path}: {MANIFEST} and {SUMS} do not match: one was changed; copy the bundle again")
    for name, expected in manifest.files.items():
        _verify(path, name, expected)
    return Bundle(path, manifest, _artifact(path, manifest))


def _artifact(path: Path, manifest: Manifest) -> Artifact:
    model = manifest.model
    for name in model.names:
        if name not in manifest.files:
            raise BundleInvalid(f"{path}: the manifest names the model file {name!r} but gives no hash of it")
    try:
        return Artifact(
            engine=model.engine,
            precision=model.precision,
            path=path / model.file,
            size_bytes=sum(manifest.files[name].size_bytes for name in model.names),
            height=model.height,
            width=model.width,
            classes=model.classes,
            note=model.note,
            companions=model.companions,
            device=model.device,
        )
    except InvalidValue as error:
        raise BundleInvalid(f"{path}: {MANIFEST} is damaged: {error}") from error


def decode_manifest(path: Path, raw: bytes) -> Mapping[str, object]:
    """The JSON object in a ``manifest.json``, once it is clear that vitlet wrote it.

    Raises:
        BundleInvalid: it is no JSON object of the kind "vitlet-bundle".
    """
    try:
        data = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleInvalid(f"{path}: {MANIFEST} is damaged ({error})") from error
    if not isinstance(data, dict) or data.get("kind") != "vitlet-bundle":
        raise BundleInvalid(f"{path} is no vitlet bundle: its {MANIFEST} was written by something else")
    return data


def read_limited(path: Path, name: str) -> bytes:
    """The bytes of one of the bundle's own small files.

    Raises:
        BundleInvalid: it is missing, no ordinary file, or larger than 64 MiB.
    """
    with _open_ordinary(path, name) as file:
        raw = file.read(MANIFEST_LIMIT_BYTES + 1)
    if len(raw) > MANIFEST_LIMIT_BYTES:
        raise BundleInvalid(f"{path}: {name} is larger than {MANIFEST_LIMIT_BYTES // 2**20} MiB, which no bundle needs")
    return raw


def plain_file_name(name: str) -> bool:
    """Whether a name can only mean a file in the bundle's own folder, on any system."""
    return _FILE_NAME.fullmatch(name) is not None and name not in (MANIFEST, SUMS)


def sums_text(manifest: bytes, files: Mapping[str, FileHash]) -> bytes:
    """The content of ``SHA256SUMS``: one line for each file, the manifest included, by name."""
    hashes = {name: file.sha256 for name, file in files.items()}
    hashes[MANIFEST] = hashlib.sha256(manifest).hexdigest()
    return "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)).encode()


def _parse(path: Path, raw: bytes) -> Manifest:
    data = decode_manifest(path, raw)
    version = data.get("schema_version")
    if not isinstance(version, int) or version < 1:
        raise BundleInvalid(f"{path}: the schema version of {MANIFEST} is {version!r}; it must be 1 or more")
    if version > SCHEMA_VERSION:
        raise BundleInvalid(
            f"{path} was written by a newer vitlet (bundle schema {version}, this one reads {SCHEMA_VERSION}); "
            "upgrade vitlet"
        )
    try:
        return manifest_from_json(data)
    except InvalidValue as error:
        raise BundleInvalid(f"{path}: {MANIFEST} is damaged: {error}") from error


def _verify(path: Path, name: str, expected: FileHash) -> None:
    with _open_ordinary(path, name) as file:
        size = os.fstat(file.fileno()).st_size
        if size != expected.size_bytes:
            raise BundleInvalid(
                f"{path}: {name} has {size} bytes instead of {expected.size_bytes}: it was cut short or changed; "
                "copy the bundle again"
            )
        try:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BundleInvalid(f"{path}: {name} cannot be read: {error.strerror}") from error
    if found != expected.sha256:
        raise BundleInvalid(f"{path}: {name} was changed since the bundle was written; copy the bundle again")


def _open_ordinary(path: Path, name: str) -> BufferedReader:
    """Open a file of the bundle, refusing links out of it and what would block (FIFOs, devices)."""
    flags = os.O_RDONLY
    for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # each is missing on some system
        flags |= getattr(os, flag, 0)
    try:
        descriptor = os.open(path / name, flags)
    except FileNotFoundError as error:
        if name == MANIFEST:
            raise BundleInvalid(f"{path} is no vitlet bundle: there is no {MANIFEST} in it") from error
        raise BundleInvalid(f"{path}: the file {name} is missing; copy the bundle again") from error
    except OSError as error:
        why = "is a symbolic link, and a bundle holds its files itself" if error.errno == errno.ELOOP else None
        raise BundleInvalid(f"{path}: {name} {why or f'cannot be read: {error.strerror}'}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BundleInvalid(f"{path}: {name} is no ordinary file")
    return os.fdopen(descriptor, "rb")
