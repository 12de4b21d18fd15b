"""What a child process says before its answer: values that travel as JSON, a line each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Tick:
    """A sign of life: ``done`` of ``total`` in what the process does now."""

    doing: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Failure:
    """Why a process could not do its job. ``kind`` tells errors apart that the parent raises anew:
    "unsupported" here, or an output that is "not writable".
    """

    message: str
    kind: Literal["failed", "unsupported", "not writable"] = "failed"


#: The word that stands before the answer on its line; the others are "tick" and "failure".
ANSWER = "answer"
