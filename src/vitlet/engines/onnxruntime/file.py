"""``.onnx`` files: what vitlet writes behind the model and checks before ONNX Runtime sees it.

A model is one protobuf message, whose fields may stand in any order. vitlet appends one more
``metadata_props`` entry (field 14) of fixed length: the key "vitlet" and, as JSON, what the file is
and the SHA-256 of all bytes before. Any reader of ONNX takes it for what it is; here it is read without
the ``onnx`` package, which the machine that runs the model need not have.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from vitlet.engines.artifacts import require_same_artifact
from vitlet.errors import ModelNotFound, ModelUnreadable
from vitlet.records import Artifact, Precision

_FORMAT = "1"
_VALUE_BYTES = 384
# Wire format: (field << 3 | 2), length, content. 0x8b 0x03 is 395, 8 of the key and 387 of the value; 0x80 0x03 is 384.
_KEY = b"\x0a\x06vitlet"
_VALUE = b"\x12\x80\x03"
_HEAD = b"\x72\x8b\x03" + _KEY + _VALUE
_TAIL_BYTES = len(_HEAD) + _VALUE_BYTES
_CHUNK = 2**20


def sealed(
    model: bytes, engine: str, precision: Precision, height: int, width: int, classes: int, *, weight_bits: int
) -> bytes:
    """``model`` with the record appended. ``weight_bits`` are those of its int8 products, 0 if it has none."""
    record = _contents(engine, precision, height, width, classes)
    record |= {"weight_bits": weight_bits, "sha256": hashlib.sha256(model).hexdigest()}
    return model + _HEAD + msgspec.json.encode(record).ljust(_VALUE_BYTES)


def check_file(artifact: Artifact) -> dict[str, Any]:
    """Check that the file is whole, was written by vitlet, and is the one ``artifact`` speaks of; return its record.

    Raises:
        ModelNotFound: there is no such file.
        ModelUnreadable: damaged, foreign, or another artifact.
    """
    path = artifact.path
    if not path.is_file():
        raise ModelNotFound(f"there is no file {path}; export the model again")
    try:
        record, digest = _read(path)
    except (OSError, ValueError) as error:
        raise ModelUnreadable(f"{path} is damaged or no ONNX file written by vitlet; export it again") from error
    expected = _contents(artifact.engine, artifact.precision, artifact.height, artifact.width, artifact.classes)
    require_same_artifact(path, expected, record)
    if record.get("sha256") != digest:
        raise ModelUnreadable(f"{path} is damaged: its bytes are not those that were written; export it again")
    return record


def _contents(engine: str, precision: Precision, height: int, width: int, classes: int) -> dict[str, Any]:
    return {
        "vitlet_format": _FORMAT,
        "engine": engine,
        "precision": str(precision),
        "height": height,
        "width": width,
        "classes": classes,
    }


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """The record at the end, and the SHA-256 of all before it."""
    left = path.stat().st_size - _TAIL_BYTES
    if left <= 0:
        raise ValueError("too short")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(left)
        tail = file.read()
        if len(tail) != _TAIL_BYTES or not tail.startswith(_HEAD):
            raise ValueError("no record")
        record = msgspec.json.decode(tail[len(_HEAD) :].rstrip(), type=dict[str, Any])
        file.seek(0)
        while left > 0:
            chunk = file.read(min(_CHUNK, left))
            if not chunk:
                raise ValueError("it shrank")
            digest.update(chunk)
            left -= len(chunk)
    return record, digest.hexdigest()
