"""What every engine says of the file it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitlet.errors import Unsupported
from vitlet.records import Artifact, Classifier, Precision

if TYPE_CHECKING:
    from vitlet.engines import Engine


def require_precision(engine: Engine, precision: Precision) -> None:
    """Refuse a precision that the engine does not know.

    Raises:
        Unsupported: the message lists those it knows.
    """
    known = engine.precisions()
    if precision not in known:
        raise Unsupported(f"engine {engine.name!r} has no {precision}; it has {', '.join(map(str, known))}")


def with_ending(path: Path, ending: str) -> Path:
    """``path`` with ``ending`` put behind it; dots in the name ("vit.v2") are no suffix."""
    return path.with_name(path.name + ending)


def describe(engine: Engine, classifier: Classifier, precision: Precision, path: Path, note: str = "") -> Artifact:
    """The record of the artifact that ``engine`` has just written to ``path``, one file."""
    architecture = classifier.architecture
    return Artifact(
        engine=engine.name,
        precision=precision,
        path=path,
        size_bytes=path.stat().st_size,
        height=architecture.image_height,
        width=architecture.image_width,
        classes=architecture.classes,
        note=note,
    )
