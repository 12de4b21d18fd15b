"""Flatbuffer files (ExecuTorch's ``.pte``, LiteRT's ``.tflite``): what vitlet appends and checks before loading.

Their runtimes read neither past the end of the flatbuffer and its weights nor a checksum. vitlet
appends a JSON record of what the file is, and after it 24 bytes: the record's length (8 bytes, little
endian), the CRC-32 of all before it (8 bytes) and ``vitletPT``. A plain app with the runtime loads the
file as any other.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import msgspec

from vitlet.engines.artifacts import require_same_artifact
from vitlet.errors import ModelNotFound, ModelUnreadable
from vitlet.records import Artifact, Classifier, Precision

_FOOTER = struct.Struct("<QQ8s")
_MAGIC = b"vitletPT"
_MOST_RECORD_BYTES = 2**20
_CHUNK = 2**20


def with_record(
    program: bytes, engine: str, classifier: Classifier, precision: Precision, graph: object = None
) -> bytes:
    """``program`` with vitlet's record behind it; ``graph`` is what ``explain`` will be told."""
    architecture = classifier.architecture
    size = (architecture.image_height, architecture.image_width, architecture.classes)
    record = msgspec.json.encode({**_contents(engine, precision, *size), "graph": graph})
    covered = program + record
    return covered + _FOOTER.pack(len(record), zlib.crc32(covered), _MAGIC)


def read_record(artifact: Artifact) -> dict[str, Any]:
    """Check that the file is whole, was written by vitlet and is the one ``artifact`` speaks of;
    return its record.

    The whole file is read: the runtime crashes on some damaged ones.

    Raises:
        ModelNotFound: there is no such file.
        ModelUnreadable: damaged, foreign, or another artifact.
    """
    path = artifact.path
    if not path.is_file():
        raise ModelNotFound(f"there is no file {path}; export the model again")
    try:
        written = _read(path)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise ModelUnreadable(
            f"{path} is damaged or no {path.suffix} file written by vitlet ({error}); export it again"
        ) from error
    expected = _contents(artifact.engine, artifact.precision, artifact.height, artifact.width, artifact.classes)
    require_same_artifact(path, expected, written)
    return written


def _read(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _FOOTER.size:
            raise ValueError(f"it has {size} bytes")
        file.seek(size - _FOOTER.size)
        length, checksum, magic = _FOOTER.unpack(file.read(_FOOTER.size))
        covered = size - _FOOTER.size
        if magic != _MAGIC or length > min(_MOST_RECORD_BYTES, covered):
            raise ValueError("it does not end in vitlet's record")
        file.seek(0)
        found, left = 0, covered
        while left and (chunk := file.read(min(_CHUNK, left))):
            found, left = zlib.crc32(chunk, found), left - len(chunk)
        if found != checksum:
            raise ValueError("its checksum is wrong")
        file.seek(covered - length)
        return msgspec.json.decode(file.read(length), type=dict[str, Any])


def _contents(engine: str, precision: Precision, height: int, width: int, classes: int) -> dict[str, Any]:
    return {
        "vitlet_format": "1",
        "engine": engine,
        "precision": str(precision),
        "height": height,
        "width": width,
        "classes": classes,
    }
