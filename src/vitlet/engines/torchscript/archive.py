"""TorchScript files (``.pt``, ``.ptl``): what vitlet writes into them and checks before loading.

The format is a zip of stored records: the program as code and pickles, and each tensor's bytes
under ``data/`` or ``constants/``. vitlet adds ``extra/vitlet.json``, which says what the file is;
``torch.jit.load`` and the lite interpreter pass over it.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import msgspec

from vitlet.errors import ModelNotFound, ModelUnreadable
from vitlet.records import Artifact, Classifier, Precision

_NAME = "vitlet.json"
_FORMAT = "1"
# The lite interpreter's records end in ".storage".
_WEIGHTS = re.compile(r"[^/]+/(data|constants)/\d+(\.storage)?")
_MOST_PROGRAM_BYTES = 256 * 2**20


def extra_files(engine: str, classifier: Classifier, precision: Precision) -> dict[str, str]:
    """The record to be saved with the module (``_extra_files``)."""
    architecture = classifier.architecture
    size = (architecture.image_height, architecture.image_width, architecture.classes)
    return {_NAME: msgspec.json.encode(_contents(engine, precision, *size)).decode()}


def check_archive(artifact: Artifact) -> None:
    """Check that the file is whole, was written by vitlet, and is the one ``artifact`` speaks of.

    The checksum of every record but the weights is verified: PyTorch's readers do not look at
    checksums, and a damaged program makes the lite interpreter crash the process. The weights'
    checksums are left alone, since reading them twice would cost as much as the loading; the
    hashes in a bundle's manifest answer for them.

    Raises:
        ModelNotFound: there is no such file.
        ModelUnreadable: damaged, foreign, or another artifact.
    """
    path = artifact.path
    if not path.is_file():
        raise ModelNotFound(f"there is no file {path}; export the model again")
    try:
        written = _read_program(path)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OverflowError) as error:
        raise ModelUnreadable(f"{path} is damaged or no TorchScript file ({error}); export it again") from error
    if written is None:
        raise ModelUnreadable(f"{path} is no TorchScript file written by vitlet; export the model with vitlet")
    expected = _contents(artifact.engine, artifact.precision, artifact.height, artifact.width, artifact.classes)
    if written != expected:
        differing = [key for key, value in expected.items() if written.get(key) != value]
        found = ", ".join(f"{key} {written.get(key)!r} instead of {expected[key]!r}" for key in differing)
        raise ModelUnreadable(f"{path} is another artifact ({found}); export the model again")


def holds_weights(record_name: str) -> bool:
    """Whether the record of that name is one tensor's bytes, and not part of the program."""
    return _WEIGHTS.fullmatch(record_name) is not None


def _contents(engine: str, precision: Precision, height: int, width: int, classes: int) -> dict[str, Any]:
    return {
        "vitlet_format": _FORMAT,
        "engine": engine,
        "precision": str(precision),
        "height": height,
        "width": width,
        "classes": classes,
    }


def _read_program(path: Path) -> dict[str, Any] | None:
    """Read, and so verify, every record but the weights; return what ``vitlet.json`` says."""
    written = None
    with zipfile.ZipFile(path) as archive:
        records = [record for record in archive.infolist() if not holds_weights(record.filename)]
        total = sum(record.file_size for record in records)
        if total > _MOST_PROGRAM_BYTES:
            raise ValueError(f"its program claims {total} bytes")
        for record in records:
            content = archive.read(record)
            if record.filename.endswith(f"/extra/{_NAME}"):
                written = msgspec.json.decode(content, type=dict[str, Any])
    return written
