"""A teacher's answers on disk, so that a large teacher is asked once for each variation of each image.

After TinyViT (2207.10666): the answer belongs to an image and the seed of its variation. Seeds follow from
recipe, epoch and position (``vitlet.distill.order``), so answers are filed by epoch and position.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vitlet.distill.processes import Processes
from vitlet.errors import InvalidValue, TrainingFailed
from vitlet.whole_file import put_whole

#: Logits that are stored of each image, the highest; the others share what is left of the probability
#: (TinyViT stores 10 of ImageNet-1k's 1000).
MOST_CLASSES = 16


@dataclass
class DecisionStore:
    """A folder with a file for each epoch of variations. ``identity`` is everything that decides what the teacher
    sees and answers, as plain JSON values; a folder only serves one.

    ``positions`` counts an epoch's images, ``classes`` the teacher's. Kept are the ``MOST_CLASSES`` highest logits in
    float16, and the log-sum-exp of the others; with no more classes than that, all of them.
    """

    folder: Path
    identity: Mapping[str, Any]
    positions: int
    classes: int
    _kept: dict[str, Tensor] = field(default_factory=dict)

    def open(self, epoch: int) -> StoredEpoch | None:
        """The answers for that epoch's variations; None if they are not stored yet.

        Raises:
            TrainingFailed: the file is damaged.
            InvalidValue: it is of another teacher, data set or recipe.
        """
        path = self._path(epoch)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                told = json.loads((file.metadata() or {}).get("vitlet_decisions", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, ValueError, OSError) as error:
            raise _damaged(path, str(error)) from error
        if not isinstance(told, dict):
            raise _damaged(path, "they do not say whose they are")
        mine = _plain(self.identity)
        different = sorted(k for k in {*told, *mine} if told.get(k) != mine.get(k))
        if different:
            raise InvalidValue(
                f"the decisions in {self.folder} were stored for another {' and '.join(different)}; name another folder"
            )
        if {name: (value.shape, value.dtype) for name, value in tensors.items()} != self._shapes():
            raise _damaged(path, "their shapes are off")
        if not bool(((tensors["classes"] >= 0) & (tensors["classes"] < self.classes)).all()):
            raise _damaged(path, "they name classes that there are not")
        if any(bool(value.isnan().any()) for value in tensors.values()):
            raise _damaged(path, "they are no numbers")
        return StoredEpoch(tensors, self.classes)

    def add(self, positions: Tensor, logits: Tensor) -> Tensor:
        """Take up the teacher's logits, float [batch, classes], for these positions of the current epoch; returns
        them as they will be read again.
        """
        device = logits.device
        if not self._kept:
            self._kept = {name: torch.zeros(shape, dtype=dtype) for name, (shape, dtype) in self._shapes().items()}
        logits = logits.detach().float().cpu()
        top, classes = logits.topk(min(MOST_CLASSES, self.classes), dim=1)
        self._kept["logits"][positions] = top.half()
        self._kept["classes"][positions] = classes.int()
        if self.classes > MOST_CLASSES:
            others = logits.scatter(1, classes, -math.inf).logsumexp(dim=1)
            self._kept["others"][positions] = others.half()
        return StoredEpoch(self._kept, self.classes).logits(positions).to(device)

    def finish(self, epoch: int, processes: Processes) -> None:
        """Write what was added as that epoch's file, all processes' parts together.

        Raises:
            TrainingFailed: it cannot be written.
        """
        if not self._kept:
            return
        for name, value in self._kept.items():
            # Each position was filled by one process and is zero in the others.
            self._kept[name] = processes.sum(value.double()).to(value.dtype) if processes.world > 1 else value
        processes.first(lambda: self._write(epoch))
        self._kept = {}

    def _write(self, epoch: int) -> None:
        data = save(self._kept, metadata={"vitlet_decisions": json.dumps(_plain(self.identity))})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            put_whole(self._path(epoch), data)
        except OSError as error:
            raise TrainingFailed(f"decisions cannot be stored in {self.folder} ({error.strerror})") from error

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05d}.safetensors"

    def _shapes(self) -> dict[str, tuple[torch.Size, torch.dtype]]:
        kept = min(MOST_CLASSES, self.classes)
        shapes = {
            "logits": (torch.Size((self.positions, kept)), torch.float16),
            "classes": (torch.Size((self.positions, kept)), torch.int32),
        }
        if self.classes > MOST_CLASSES:
            shapes["others"] = (torch.Size((self.positions,)), torch.float16)
        return shapes


@dataclass(frozen=True)
class StoredEpoch:
    """One epoch's answers, in memory."""

    tensors: Mapping[str, Tensor]
    classes: int

    def logits(self, positions: Tensor) -> Tensor:
        """float32 [batch, classes] for these positions: as the teacher gave them to float16's precision; classes
        that were not stored share the rest evenly.
        """
        top, where = self.tensors["logits"][positions].float(), self.tensors["classes"][positions].long()
        if "others" in self.tensors:
            rest = self.tensors["others"][positions].float() - math.log(self.classes - top.shape[1])
            # Rounding must not lift them above those that were kept, ...
            found = torch.minimum(rest, top[:, -1]).unsqueeze(1).repeat(1, self.classes)
        else:
            found = torch.zeros(len(positions), self.classes)
        found.scatter_(1, where, top)
        # ... and the first, the decision, stays the highest where float16 cannot tell it from the second.
        above = torch.nextafter(top[:, :1], torch.full_like(top[:, :1], math.inf))
        return found.scatter(1, where[:, :1], above)


def digest(module: torch.nn.Module) -> str:
    """SHA-256 of a module's weights and their names."""
    found = sha256()
    for name, value in sorted(module.state_dict().items()):
        found.update(name.encode() + value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _damaged(path: Path, how: str) -> TrainingFailed:
    return TrainingFailed(f"the stored decisions {path} are damaged ({how}); delete that file")


def _plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(identity)))
    return plain
