"""The state of a training run on disk: written whole or not at all, read without unpickling code."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vitlet.errors import InvalidValue, TrainingFailed
from vitlet.records import from_json, to_json
from vitlet.whole_file import put_whole


@dataclass(frozen=True)
class Accuracy:
    """Shares of test images answered right: by the model's own output, and by each head where there
    are two (the model's output then being their mean). ``images`` could be read and were counted."""

    top1: float
    class_head: float | None = None
    distillation_head: float | None = None
    images: int = 0


@dataclass(frozen=True)
class Epoch:
    """What one epoch brought: mean training loss, test accuracy after it (of the averaged weights where there are
    some), its seconds (training alone, testing not counted), of which ``waited_s`` were spent waiting for images,
    and how many images could not be read so far.
    """

    number: int
    loss: float
    accuracy: Accuracy
    learning_rate: float
    seconds: float
    waited_s: float = 0.0
    unreadable: int = 0


@dataclass(frozen=True)
class StateFile:
    """Where a run keeps its state. ``identity`` is everything that shapes the run (architecture,
    recipe, data, teacher), as plain JSON values: a state is only resumed by the same run."""

    folder: Path
    identity: Mapping[str, Any]

    @property
    def path(self) -> Path:
        return self.folder / "training.pt"

    def write(self, weights: Mapping[str, Any], epochs: tuple[Epoch, ...]) -> None:
        """Replace the state by this one (``weights``: state dicts by name); the old one stays until the new one
        is whole.

        Raises:
            TrainingFailed: it cannot be written; names the state that is still usable.
        """
        buffer = io.BytesIO()
        torch.save({"identity": to_json(dict(self.identity)), "epochs": to_json(epochs), **weights}, buffer)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            put_whole(self.path, buffer.getbuffer())
        except OSError as error:
            raise TrainingFailed(
                f"epoch {len(epochs)} cannot be saved in {self.folder} ({error.strerror}); {self.usable()}"
            ) from error

    def read(self) -> tuple[dict[str, Any], tuple[Epoch, ...]]:
        """The state dicts by name, and the epochs done; none of either without a file.

        Raises:
            TrainingFailed: the file is damaged.
            InvalidValue: it belongs to a run with other settings.
        """
        if not self.path.exists():
            return {}, ()
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            identity = state.pop("identity")
            epochs = from_json(state.pop("epochs"), tuple[Epoch, ...])
        except Exception as error:  # torch raises a dozen kinds for a damaged file
            raise TrainingFailed(
                f"the training state {self.path} is damaged ({type(error).__name__}); delete it and start again"
            ) from error
        mine = to_json(dict(self.identity))
        different = _differences(identity, mine)
        if different:
            raise InvalidValue(
                f"{self.path} was begun with another {' and '.join(different)}; "
                "resume with the same settings, or choose another folder"
            )
        return state, epochs

    def usable(self) -> str:
        """A clause that says what is left to go on from."""
        if self.path.exists():
            return f"the last finished epoch is in {self.path}: run the same with --resume to go on from it"
        return "no epoch was finished, so there is nothing to resume"


def _differences(begun: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """What differs, a setting by its name and both values, another thing by its name alone."""
    found = []
    for part in sorted({*begun, *mine}):
        old, new = begun.get(part), mine.get(part)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
            found += [f"{part}.{name} ({old.get(name)}, now {new.get(name)})" for name in names]
        elif old != new:
            found.append(part)
    return found
