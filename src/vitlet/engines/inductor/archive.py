"""Packages of compiled code (``.pt2``): what vitlet writes into them and checks before loading.

The format is PyTorch's: a zip of stored records, among them the model as a native library. vitlet
adds ``extra/vitlet.json``, which says what the file is, what it was compiled for, and the SHA-256
of each other record; ``torch._inductor.aoti_load_package`` passes over it.

The hashes find damage. They are no signature: opening such a file runs the code in it, so it must
come from a place that you trust as much as a program.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec
import torch

from vitlet.engines.artifacts import require_same_artifact
from vitlet.engines.torch.processor import compiled_for, compute_capability, platform_name, require_device
from vitlet.errors import ModelNotFound, ModelUnreadable, Unsupported
from vitlet.records import Artifact, Classifier, Device, Precision

_RECORD = "model/extra/vitlet.json"
_FORMAT = "1"
_MOST_RECORD_BYTES = 2**20
_CHUNK_BYTES = 2**20
_PARAMETERS = ("engine", "precision", "height", "width", "classes", "device")


def add_record(package: Path, engine: str, classifier: Classifier, precision: Precision, device: Device) -> None:
    """Write vitlet's record into a package that has none."""
    architecture = classifier.architecture
    size = (architecture.image_height, architecture.image_width, architecture.classes)
    with zipfile.ZipFile(package, "a") as archive:
        record = {
            "vitlet_format": _FORMAT,
            **dict(zip(_PARAMETERS, (engine, str(precision), *size, device), strict=True)),
            "torch": _torch_version(),
            "platform": platform_name(),
            # What launches a GPU's kernels is native code for the processor, too.
            "instructions": compiled_for(),
            "compute_capability": compute_capability() if device == "cuda" else None,
            "sha256": {name: _digest(archive, name) for name in archive.namelist()},
        }
        archive.writestr(_RECORD, msgspec.json.encode(record))


def check_package(artifact: Artifact) -> str:
    """Check that the file is whole, was written by vitlet, is the one ``artifact`` speaks of, and can
    run here; return the name of the record that holds the native library.

    For the CPU the library itself is not read: ``copy_record`` verifies it while it copies.

    Raises:
        ModelNotFound: there is no such file.
        ModelUnreadable: damaged, foreign, or another artifact.
        Unsupported: compiled for another PyTorch, system, processor or kind of GPU, or no GPU.
    """
    path = artifact.path
    if not path.is_file():
        raise ModelNotFound(f"there is no file {path}; export the model again")
    try:
        with zipfile.ZipFile(path) as archive:
            written = _read_record(archive)
            library = _library_name(archive)
            if written is not None:
                _check_hashes(archive, written, skip=library if artifact.device == "cpu" else None)
    except (OSError, zipfile.BadZipFile, EOFError, RuntimeError, ValueError, OverflowError) as error:
        raise ModelUnreadable(f"{path} is damaged or no package of compiled code ({error}); export it again") from error
    if written is None or library is None:
        raise ModelUnreadable(f"{path} is no package of compiled code written by vitlet; export the model with vitlet")
    _check_identity(artifact, written)
    _check_machine(path, written)
    return library


def copy_record(path: Path, name: str, to: Path) -> None:
    """Copy one record out of the package, verified against vitlet's record.

    Raises:
        ModelUnreadable: it is damaged, or cannot be written to ``to``.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as source, to.open("wb") as target:
            wanted = (_read_record(archive) or {})["sha256"][name]
            digest = hashlib.sha256()
            for chunk in _chunks(source):
                digest.update(chunk)
                target.write(chunk)
    except (OSError, zipfile.BadZipFile, EOFError, RuntimeError, ValueError, LookupError) as error:
        raise ModelUnreadable(f"{path} cannot be unpacked into {to.parent} ({error}); export it again") from error
    if digest.hexdigest() != wanted:
        raise ModelUnreadable(f"{path} is damaged ({name} has changed); export it again")


def read_sources(path: Path) -> str:
    """The C++ that the package was compiled from, which calls the kernels by name."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".cpp")]
        return "\n".join(archive.read(name).decode(errors="replace") for name in names)


def _read_record(archive: zipfile.ZipFile) -> dict[str, Any] | None:
    if _RECORD not in archive.namelist():
        return None
    if archive.getinfo(_RECORD).file_size > _MOST_RECORD_BYTES:
        raise ValueError("its record is of absurd size")
    return msgspec.json.decode(archive.read(_RECORD), type=dict[str, Any])


def _library_name(archive: zipfile.ZipFile) -> str | None:
    found = [name for name in archive.namelist() if name.startswith("model/data/") and name.endswith(".so")]
    return found[0] if len(found) == 1 else None


def _check_hashes(archive: zipfile.ZipFile, written: dict[str, Any], skip: str | None) -> None:
    hashes = written.get("sha256")
    records = [record for record in archive.infolist() if record.filename != _RECORD]
    if not isinstance(hashes, dict) or sorted(hashes) != sorted(record.filename for record in records):
        raise ValueError("its records are not those that were written")
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{record.filename} is compressed")
        if record.filename != skip and _digest(archive, record.filename) != hashes[record.filename]:
            raise ValueError(f"{record.filename} has changed")


def _check_identity(artifact: Artifact, written: dict[str, Any]) -> None:
    expected = {name: getattr(artifact, name) for name in _PARAMETERS} | {"precision": str(artifact.precision)}
    expected = {"vitlet_format": _FORMAT, **expected}
    require_same_artifact(artifact.path, expected, written)


def _check_machine(path: Path, written: dict[str, Any]) -> None:
    if written.get("torch") != _torch_version():
        raise Unsupported(
            f"{path} was compiled for PyTorch {written.get('torch')}, and this is {_torch_version()}; export it again"
        )
    if written.get("platform") != platform_name():
        raise Unsupported(
            f"{path} was compiled for {written.get('platform')}, and this is {platform_name()}; export it again here"
        )
    needed = written.get("instructions")
    missing = sorted(set(map(str, needed)) - set(compiled_for())) if isinstance(needed, list) else ["unknown"]
    if missing:
        raise Unsupported(
            f"{path} was compiled for a processor with {', '.join(missing)}, which this one has not; export it here"
        )
    if written["device"] == "cuda":
        _check_gpu(path, str(written.get("compute_capability")))


def _check_gpu(path: Path, wanted: str) -> None:
    require_device("cuda")
    found = compute_capability()
    if wanted != found:
        raise Unsupported(
            f"{path} was compiled for a GPU of compute capability {wanted}, and this one has {found}; export it here"
        )


def _torch_version() -> str:
    return torch.__version__.partition("+")[0]


def _digest(archive: zipfile.ZipFile, name: str) -> str:
    digest = hashlib.sha256()
    with archive.open(name) as record:
        for chunk in _chunks(record):
            digest.update(chunk)
    return digest.hexdigest()


def _chunks(record: IO[bytes]) -> Iterator[bytes]:
    while chunk := record.read(_CHUNK_BYTES):
        yield chunk
