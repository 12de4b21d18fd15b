"""What an exporting process is told, and what it answers: values that travel as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from vitlet.data.calibration import Calibration
from vitlet.errors import NotWritable, Unsupported
from vitlet.records import Artifact, Device, Precision

ExportStatus: TypeAlias = Literal["ok", "unsupported", "not writable", "failed"]


def status_of(error: Exception) -> ExportStatus:
    """The word for an error."""
    if isinstance(error, Unsupported):
        return "unsupported"
    return "not writable" if isinstance(error, NotWritable) else "failed"


@dataclass(frozen=True)
class ExportJob:
    """Export the classifier in the file ``checkpoint`` (``models.checkpoint``) with one engine.

    Each artifact goes to ``directory`` under the engine's and the precision's names, or a single one to
    ``path``; temporary files go to ``directory``. ``reference`` is what the user calls the model.
    """

    checkpoint: Path
    reference: str
    engine: str
    precisions: tuple[Precision, ...]
    directory: Path
    calibration: Calibration | None = None
    device: Device = "cpu"
    path: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one precision: an artifact, or the reason why there is none."""

    precision: Precision
    artifact: Artifact | None = None
    status: ExportStatus = "ok"
    reason: str = ""


@dataclass(frozen=True)
class Exported:
    """What became of every precision, in the order asked for."""

    outcomes: tuple[Outcome, ...]
