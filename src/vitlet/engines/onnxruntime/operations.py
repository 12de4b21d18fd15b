"""Which of the model's operations a node of the graph belongs to, by the names that the tracing exporter gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: What ``patches_as_linear`` and an output's own name make of the names of two operations.
_OTHER_NAMES = {"/Transpose_output_0": "embed", "logits": "head"}


def prefixes_of(operations: Iterable[str]) -> Mapping[str, str]:
    """What the names of each operation's nodes begin with -> the operation, a module's path ("blocks.0.mlp.up")."""
    return {_path(name): name for name in operations}


def owner(node: str, prefixes: Mapping[str, str]) -> str:
    """The operation that the node of this name belongs to; empty if it is none of those in ``prefixes``."""
    for other, name in _OTHER_NAMES.items():
        if node.startswith(f"{other}/") and name in prefixes.values():
            return name
    parent = node.rpartition("/")[0]
    while parent:
        if parent in prefixes:
            return prefixes[parent]
        parent = parent.rpartition("/")[0]
    return ""


def _path(name: str) -> str:
    """How the exporter calls a module's nodes: "blocks.0.mlp.up" -> "/blocks/blocks.0/mlp/up"."""
    parts: list[str] = []
    for part in name.split("."):
        parts.append(f"{parts[-1]}.{part}" if part.isdigit() and parts else part)
    return "/" + "/".join(parts)
