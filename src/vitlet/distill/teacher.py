"""The teacher: any classifier, made to answer for the student's images and the data's classes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitlet.data.labels import match_classes
from vitlet.distill.decisions import digest
from vitlet.errors import InvalidValue, Unsupported
from vitlet.models.reference import load
from vitlet.records import Classifier, ImageSpec, ProgressCallback, VitArchitecture, no_progress, to_json

#: float32 [batch, 3, height, width], normalised by the teacher's own spec -> logits [batch, its classes].
Answer: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Teacher:
    """Who answers (``name``, ``answer``), for which images (``spec``) and classes (``labels``). ``identity``
    tells two teachers apart; one of ``any_size`` takes larger images than its spec's. ``module`` is what
    ``answer`` runs, None if it is no torch module.
    """

    name: str
    answer: Answer
    spec: ImageSpec
    labels: tuple[str, ...]
    identity: str
    any_size: bool = False
    parameters: int = 0
    module: nn.Module | None = field(default=None, repr=False)

    def to(self, device: torch.device) -> None:
        """Move its module there."""
        if self.module is not None:
            self.module.to(device)

    def for_student(self, spec: ImageSpec, class_names: Sequence[str]) -> Answer:
        """Its answers as logits of ``class_names``, for images normalised by the student's ``spec``.

        Where the two specs differ, pixels are normalised anew and resized (bilinear, antialiased).

        Raises:
            InvalidValue: it does not know all the classes.
        """
        columns = _columns(self, tuple(class_names))
        theirs = self.spec
        if self.any_size and spec.height >= theirs.height and spec.width >= theirs.width:
            theirs = replace(theirs, height=spec.height, width=spec.width)

        def answer(images: Tensor) -> Tensor:
            seen = _seen_by(images, spec, theirs)
            logits = self.answer(seen)
            return logits if columns is None else logits[:, columns.to(logits.device)]

        return answer


def load_teacher(reference: str, *, progress: ProgressCallback = no_progress) -> Teacher:
    """Load a teacher by any model reference.

    Of Hugging Face, any image classifier that transformers knows (the extra ``hf``).

    Raises:
        ModelNotFound, ModelUnreadable, HubUnreachable, Unsupported: it cannot be had.
    """
    try:
        found = load(reference, progress=progress)
    except Unsupported:
        if not reference.startswith("hf:"):
            raise
        from vitlet.distill.hf_teacher import load_hf_teacher

        return load_hf_teacher(reference.removeprefix("hf:"), progress=progress)
    return of_classifier(found)


def of_classifier(classifier: Classifier) -> Teacher:
    """A loaded classifier as a teacher. A network without a fixed input size sees images as large as the student
    does where that is more than its own (DeiT's section 5.1 fine-tunes at 384 pixels with such a teacher).
    """
    teacher = of_module(classifier.reference, classifier.module, classifier.image_spec, classifier.labels)
    cfg = getattr(classifier.module, "pretrained_cfg", None) or {}
    fixed = isinstance(classifier.architecture, VitArchitecture) or bool(cfg.get("fixed_input_size"))
    function = json.dumps([to_json(classifier.architecture), teacher.identity], sort_keys=True)
    return replace(teacher, any_size=not fixed, identity=sha256(function.encode()).hexdigest())


def of_module(name: str, module: nn.Module, spec: ImageSpec, labels: tuple[str, ...]) -> Teacher:
    """A teacher that is a torch module: images -> logits, in eval mode."""
    module.eval().requires_grad_(False)
    parameters = sum(p.numel() for p in module.parameters())
    told = json.dumps([digest(module), to_json(spec), labels], sort_keys=True)
    identity = sha256(told.encode()).hexdigest()
    return Teacher(name, module, spec, labels, identity, parameters=parameters, module=module)


def same_classes(class_names: tuple[str, ...], labels: tuple[str, ...]) -> tuple[int, ...]:
    """The index in ``labels`` of each class, by name; -1 where there is none. Names that are nothing but numbers are
    the same only among numbers: what a model's class 7 is, the 7 of other data need not be.
    """
    if all(name.isdigit() for name in class_names) and not all(label.isdigit() for label in labels):
        return (-1,) * len(class_names)
    return match_classes(class_names, labels).indices


def _columns(teacher: Teacher, class_names: tuple[str, ...]) -> Tensor | None:
    """Which of the teacher's logits are those of ``class_names``; None if they are the same in this order."""
    if teacher.labels == class_names:
        return None
    match = same_classes(class_names, teacher.labels)
    missing = [name for name, index in zip(class_names, match, strict=True) if index < 0]
    if missing or len(set(match)) < len(class_names):
        shown = ", ".join(missing[:3] or class_names[:3])
        raise InvalidValue(
            f"the teacher {teacher.name} ({len(teacher.labels)} classes, as {', '.join(teacher.labels[:3])}) does not "
            f"know the data's classes {shown}; take a teacher of the same classes, or train one on them first"
        )
    return torch.tensor(match)


def _seen_by(images: Tensor, mine: ImageSpec, theirs: ImageSpec) -> Tensor:
    """Images normalised by one spec -> normalised and sized by another."""
    if (mine.mean, mine.std) != (theirs.mean, theirs.std):

        def column(values: tuple[float, ...]) -> Tensor:
            return torch.tensor(values, device=images.device, dtype=images.dtype).view(1, 3, 1, 1)

        scale = column(mine.std) / column(theirs.std)
        images = images * scale + (column(mine.mean) - column(theirs.mean)) / column(theirs.std)
    if images.shape[2:] != (theirs.height, theirs.width):
        size = (theirs.height, theirs.width)
        images = F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
    return images
