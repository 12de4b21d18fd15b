"""The one JSON document that every command can write; its schema is docs/json.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlet.errors import NotWritable
from vitlet.whole_file import put_whole

if TYPE_CHECKING:
    from vitlet.records import Environment

SCHEMA_VERSION = 1


def check_json_path(path: str | None) -> None:
    """Refuse before the work begins what could not be written at its end.

    Raises:
        NotWritable: the folder is missing, or ``path`` is one.
    """
    if path is None or path == "-":
        return
    target = Path(path)
    if target.is_dir():
        raise NotWritable(f"--json {path} is a folder; give the path of a file in it")
    if not target.absolute().parent.is_dir():
        raise NotWritable(f"--json {path}: there is no folder {target.absolute().parent}; make it first")


def write_json(
    path: str | None,
    command: str,
    environment: Environment,
    rows: Sequence[Mapping[str, Any]],
    **more: object,
) -> None:
    """Write the document to ``path``, whole or not at all; to standard output for "-"; nowhere for None.

    Raises:
        NotWritable: no permission, or the disk is full.
    """
    if path is None:
        return
    from vitlet import __version__
    from vitlet.records import to_json

    document = {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "vitlet_version": __version__,
        "environment": to_json(environment),
        "rows": list(rows),
        **{name: to_json(value) for name, value in more.items()},
    }
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if path == "-":
        sys.stdout.write(text)
        return
    try:
        put_whole(Path(path), text.encode())
    except OSError as error:
        raise NotWritable(f"cannot write --json {path}: {error.strerror}") from error
