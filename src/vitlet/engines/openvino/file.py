"""OpenVINO's two files (``.xml`` the graph, ``.bin`` the weights): written whole, and checked before opening.

vitlet's record stands in the graph's ``rt_info``: what the artifact is, and the SHA-256 of both files.
It is read without an XML parser, so that a damaged file is refused before OpenVINO sees it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from vitlet.engines.artifacts import require_same_artifact
from vitlet.engines.openvino.quiet import last_line, openvino
from vitlet.errors import ModelNotFound, ModelUnreadable, NotWritable
from vitlet.records import Artifact, Classifier, Precision

INPUT, OUTPUT = "images", "logits"
WEIGHTS = ".bin"
_FORMAT = "1"
_BLANK = "0" * 64
_HASHES = ("weights_sha256", "graph_sha256")
_RECORD = re.compile(rb"<vitlet>(.*?)</vitlet>", re.DOTALL)
_FIELD = re.compile(rb'<(\w+) value="([^"]*)" />')
_MOST_GRAPH_BYTES = 256 * 2**20


class Int8Products(NamedTuple):
    """``dynamic_group`` is how many activations share a scale where they are quantized as they come,
    else 0; ``weight_bits`` how many bits the weights use where ranges were learnt, else 0.
    """

    dynamic_group: int = 0
    weight_bits: int = 0


def write_model(
    model: Any, engine: str, classifier: Classifier, precision: Precision, target: Path, products: Int8Products
) -> None:
    """Write ``target`` (.xml) and the weights beside it, whole or not at all.

    Raises:
        NotWritable: no such folder, no permission, no space.
    """
    architecture = classifier.architecture
    size = (architecture.image_height, architecture.image_width, architecture.classes)
    fields = _contents(engine, precision, *size)
    fields |= {name: str(value) for name, value in products._asdict().items()}
    for name, value in (*fields.items(), *((name, _BLANK) for name in _HASHES)):
        model.set_rt_info(value, ["vitlet", name])
    try:
        _require_no_folder(target, target.with_suffix(WEIGHTS))
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".vitlet-") as folder:
            graph = Path(folder) / target.name
            _serialize(model, graph)
            _put_hashes(graph)
            graph.with_suffix(WEIGHTS).replace(target.with_suffix(WEIGHTS))
            graph.replace(target)
    except OSError as error:
        raise NotWritable(
            f"{target} cannot be written: {error.strerror or error}; choose a folder that exists, that you may "
            "write to and that has space"
        ) from error


def _require_no_folder(*targets: Path) -> None:
    """Else the first file would be in its place before the second fails."""
    for target in targets:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def _serialize(model: Any, graph: Path) -> None:
    try:
        openvino().serialize(model, str(graph), str(graph.with_suffix(WEIGHTS)))
    except RuntimeError as error:
        _fill(graph.with_name("full"), _weights_bytes(model))
        raise OSError(last_line(error)) from error


def _fill(path: Path, size_bytes: int) -> None:
    """Write as much as OpenVINO tried to, so that the system says why that failed; OpenVINO does not."""
    with path.open("wb") as file:
        for _ in range(size_bytes // 2**20 + 1):
            file.write(bytes(2**20))
        os.fsync(file.fileno())


def _weights_bytes(model: Any) -> int:
    return sum(node.get_byte_size() for node in model.get_ops() if node.get_type_name() == "Constant")


def _put_hashes(path: Path) -> None:
    weights = path.with_suffix(WEIGHTS)
    graph = _with_hash(path.read_bytes(), "weights_sha256", _file_hash(weights))
    graph = _with_hash(graph, "graph_sha256", hashlib.sha256(graph).hexdigest())
    for file_path, content in ((weights, None), (path, graph)):
        # Some file systems tell of a full disk only on fsync.
        with file_path.open("rb+") as file:
            if content is not None:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())


def _with_hash(graph: bytes, name: str, value: str) -> bytes:
    """The graph with this hash, which is as long as the blank that it replaces."""
    before, blank, after = graph.rpartition(f'<{name} value="{_BLANK}" />'.encode())
    if not blank:
        raise OSError(f"OpenVINO kept no record of {name}")
    return before + f'<{name} value="{value}" />'.encode() + after


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(artifact: Artifact) -> Int8Products:
    """Check that both files are whole, were written by vitlet, and are those ``artifact`` speaks of;
    return what their int8 products need.

    Raises:
        ModelNotFound: there is no such file.
        ModelUnreadable: damaged, foreign, or another artifact.
    """
    path, weights = artifact.path, artifact.path.with_suffix(WEIGHTS)
    if not path.is_file():
        raise ModelNotFound(f"there is no file {path}; export the model again")
    if not weights.is_file():
        raise ModelNotFound(f"the weights of {path} are missing: there is no {weights.name} beside it; export it again")
    found = _read_record(path)
    expected = _contents(artifact.engine, artifact.precision, artifact.height, artifact.width, artifact.classes)
    require_same_artifact(path, expected, found)
    if _file_hash(weights) != found.get("weights_sha256"):
        raise ModelUnreadable(f"the weights of {path} ({weights.name}) are damaged or another model's; export it again")
    # Before they were recorded, weights with learnt ranges were taken for full.
    bits = found.get("weight_bits", "8" if artifact.precision.is_calibrated else "0")
    return Int8Products(int(found["dynamic_group"]), int(bits))


def _read_record(path: Path) -> dict[str, str]:
    try:
        if path.stat().st_size > _MOST_GRAPH_BYTES:
            raise ModelUnreadable(f"{path} is {path.stat().st_size} bytes, too large for a graph; export it again")
        graph = path.read_bytes()
    except OSError as error:
        raise ModelUnreadable(f"{path} cannot be read ({error.strerror}); export it again") from error
    records = _RECORD.findall(graph)
    fields = _FIELD.findall(records[-1]) if records else ()
    found = {name.decode(): value.decode(errors="replace") for name, value in fields}
    if "graph_sha256" not in found:
        raise ModelUnreadable(f"{path} is damaged or no OpenVINO file written by vitlet; export the model with vitlet")
    before, _, after = graph.rpartition(found["graph_sha256"].encode())
    if hashlib.sha256(before + _BLANK.encode() + after).hexdigest() != found["graph_sha256"]:
        raise ModelUnreadable(f"{path} is damaged: it is not as it was written; export it again")
    return found


def _contents(engine: str, precision: Precision, height: int, width: int, classes: int) -> dict[str, str]:
    return {
        "vitlet_format": _FORMAT,
        "engine": engine,
        "precision": str(precision),
        "height": str(height),
        "width": str(width),
        "classes": str(classes),
    }
