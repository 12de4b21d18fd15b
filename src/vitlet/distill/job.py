"""The whole of ``vitlet distill``: data in, teacher trained or read, student trained, checkpoint out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import nn

from vitlet.data.datasets import LabelledPixels, load_dataset
from vitlet.distill.objective import learn_from_teacher, learn_labels
from vitlet.distill.recipe import STUDENT, TEACHER, Recipe
from vitlet.distill.state import Accuracy, Epoch, StateFile
from vitlet.distill.student import new_student, small_vit
from vitlet.distill.teacher import SMALL_RESNET, Teacher, load_teacher, save_teacher, small_resnet
from vitlet.distill.trainer import evaluate, fit
from vitlet.errors import InvalidValue, ModelNotFound, NotWritable, OutputExists
from vitlet.models.checkpoint import load_checkpoint, save_checkpoint
from vitlet.models.vit import build_vit
from vitlet.records import Classifier, ImageSpec, ProgressCallback, VitArchitecture, no_progress, to_json

ObjectiveName: TypeAlias = Literal["hard", "none"]


@dataclass(frozen=True)
class Run:
    """What one training run was and what came of it. ``accuracy`` is that of the last epoch's float32
    weights in float32 arithmetic on the ``test_images``; no epoch was picked by it."""

    model: str
    parameters: int
    recipe: Recipe
    epochs: tuple[Epoch, ...]
    accuracy: Accuracy
    train_images: int
    test_images: int
    torch: str
    threads: int


@dataclass(frozen=True)
class DistillResult:
    """A trained student, in the checkpoint at ``path``. ``teacher`` is None if none was trained by this
    run."""

    classifier: Classifier
    path: Path
    student: Run
    teacher: Run | None = None


def distill(
    data: str,
    out: Path,
    *,
    objective: ObjectiveName = "hard",
    teacher: Path | None = None,
    start: Path | None = None,
    recipe: Recipe = STUDENT,
    teacher_recipe: Recipe = TEACHER,
    work: Path | None = None,
    resume: bool = False,
    threads: int | None = None,
    data_root: Path | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    progress: ProgressCallback = no_progress,
) -> DistillResult:
    """Train a small ViT on a named data set (see ``vitlet.data.datasets``) and write it to ``out``, a
    ``.safetensors`` file with weights of this ``dtype``.

    With objective "hard" it learns from the labels and from a teacher: the one at the path
    ``teacher``, or a small ResNet that is trained first and kept as ``teacher.safetensors`` in
    ``work``. With "none" the same ViT without distillation token learns from the labels alone.
    The student starts from random weights, or from those of the checkpoint ``start``, a student of the
    same kind. ``work`` (next to ``out`` by default) keeps the state after each epoch; with
    ``resume`` the run goes on from there. ``threads`` is torch's number of threads, its own choice if None.

    Raises:
        InvalidValue: a setting is wrong, or the state in ``work`` was begun with others.
        OutputExists: ``out``, or without ``resume`` a state in ``work``, is already there.
        NotWritable: ``out`` cannot be written.
        TrainingFailed: the loss is no number any more, or a state cannot be written or read.
        HubUnreachable, UnreadableImage: the data cannot be had.
        ModelNotFound, ModelUnreadable: the teacher cannot be had.
        KeyboardInterrupt: the user stopped it; its text says how to go on.
    """
    if dtype not in ("float32", "float16"):
        raise InvalidValue(f"dtype is {dtype!r}; it must be 'float32' or 'float16'")
    if objective not in ("hard", "none"):
        raise InvalidValue(f"objective is {objective!r}; it must be 'hard' or 'none'")
    if objective == "none" and teacher is not None:
        raise InvalidValue(f"objective 'none' learns from no teacher, so leave out --teacher {teacher}")
    work = work if work is not None else out.with_name(f"{out.stem}.training")
    _check_paths(out, work, resume)
    found = load_teacher(teacher) if teacher is not None else None
    begun = _load_start(start) if start is not None else None
    train, test = load_dataset(data, "train", data_root), load_dataset(data, "test", data_root)
    with _threads(threads):
        taught: Run | None = None
        if objective == "hard" and found is None:
            found, taught = train_teacher(data, train, test, teacher_recipe, work, progress=progress)
        classifier, student = train_student(
            data, train, test, recipe, work, teacher=found, start=begun, progress=progress
        )
    save_checkpoint(classifier, out, dtype=dtype)
    return DistillResult(classifier, out, student, taught)


def train_teacher(
    data: str,
    train: LabelledPixels,
    test: LabelledPixels,
    recipe: Recipe,
    work: Path,
    *,
    progress: ProgressCallback = no_progress,
) -> tuple[Teacher, Run]:
    """Train the small ResNet in ``work`` (going on from a state there) and write it to
    ``work/teacher.safetensors``. Errors as ``distill``.
    """
    spec = image_spec(train)
    module = small_resnet(len(train.class_names), seed=recipe.seed)
    identity = {"model": SMALL_RESNET, "data": data, "images": train.count, "recipe": to_json(recipe)}
    objective = learn_labels(recipe.label_smoothing)
    state = StateFile(work / "teacher", identity)
    epochs = fit(module, objective, train, test, spec, recipe, state, stage="teacher", progress=progress)
    teacher = Teacher(module, train.class_names)
    save_teacher(teacher, work / "teacher.safetensors")
    accuracy = evaluate(module, test, spec)
    return teacher, _run(SMALL_RESNET, teacher.parameters, recipe, epochs, accuracy, train, test)


def train_student(
    data: str,
    train: LabelledPixels,
    test: LabelledPixels,
    recipe: Recipe,
    work: Path,
    *,
    teacher: Teacher | None = None,
    architecture: VitArchitecture | None = None,
    start: Classifier | None = None,
    progress: ProgressCallback = no_progress,
) -> tuple[Classifier, Run]:
    """Train a ViT in ``work`` (going on from a state there): with a teacher by hard-label distillation,
    without one on the labels alone; from the weights of ``start`` if there is one. Errors as
    ``distill``.
    """
    spec = image_spec(train)
    wanted = architecture or small_vit(train, distillation_token=teacher is not None)
    if wanted.distillation_token != (teacher is not None):
        raise InvalidValue("a student has a distillation token exactly if it has a teacher; give both or neither")
    if teacher is not None and teacher.labels != train.class_names:
        raise InvalidValue(
            f"the teacher knows {', '.join(teacher.labels)}, but {data} has {', '.join(train.class_names)}; "
            "take a teacher of the same classes"
        )
    module = new_student(wanted, seed=recipe.seed, drop_path=recipe.drop_path)
    identity = {"model": to_json(wanted), "data": data, "images": train.count, "recipe": to_json(recipe)}
    if teacher is not None:
        identity["teacher"] = _digest(teacher.module)
    if start is not None:
        identity["start"] = _take_weights(module, wanted, train.class_names, start)
    smoothing = recipe.label_smoothing
    objective = learn_from_teacher(teacher.module, smoothing) if teacher is not None else learn_labels(smoothing)
    state = StateFile(work / "student", identity)
    epochs = fit(module, objective, train, test, spec, recipe, state, stage="student", progress=progress)
    accuracy = evaluate(module, test, spec)
    plain = build_vit(wanted)  # the same without stochastic depth, which only training needs
    plain.load_state_dict(module.state_dict())
    name = f"vit-{wanted.width}x{wanted.depth}-patch{wanted.patch}"
    classifier = Classifier(plain, wanted, spec, train.class_names, reference=name, library="checkpoint")
    parameters = sum(p.numel() for p in plain.parameters())
    return classifier, _run(name, parameters, recipe, epochs, accuracy, train, test)


def _load_start(path: Path) -> Classifier:
    if not path.is_file():
        raise ModelNotFound(f"there is no file {path} to start from; give a student's .safetensors")
    return load_checkpoint(path)


def _take_weights(module: nn.Module, wanted: VitArchitecture, labels: tuple[str, ...], start: Classifier) -> str:
    """Give ``module`` the weights of ``start``; return their SHA-256, as a run may only be resumed that
    began from the same ones.
    """
    if (start.architecture, start.labels) != (wanted, labels):
        raise InvalidValue(
            f"{start.reference} is no student of this kind; start from one of the same architecture, classes and "
            "objective"
        )
    module.load_state_dict(start.module.state_dict())
    return _digest(module)


def _digest(module: nn.Module) -> str:
    """SHA-256 of a module's weights and their names."""
    digest = sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def image_spec(data: LabelledPixels) -> ImageSpec:
    """How files of such images become the model's input; mean and standard deviation are those of the
    data's own pixels, to four digits, the same in all channels of gray images."""
    height, width = data.size
    channels = data.pixels.reshape(-1, 1 if data.pixels.ndim == 3 else 3) / 255.0
    mean, std = _per_channel(channels.mean(axis=0)), _per_channel(channels.std(axis=0))
    return ImageSpec(height, width, (height, width), "bilinear", mean, std)


def _per_channel(values: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (round(float(v), 4) for v in np.broadcast_to(values, (3,)))
    return red, green, blue


def _run(
    model: str,
    parameters: int,
    recipe: Recipe,
    epochs: tuple[Epoch, ...],
    accuracy: Accuracy,
    train: LabelledPixels,
    test: LabelledPixels,
) -> Run:
    threads = torch.get_num_threads()
    return Run(model, parameters, recipe, epochs, accuracy, train.count, test.count, str(torch.__version__), threads)


def _check_paths(out: Path, work: Path, resume: bool) -> None:
    """Refuse before the training rather than after it."""
    if out.suffix != ".safetensors":
        raise InvalidValue(f"the output is {str(out)!r}; its name must end in .safetensors")
    if out.exists():
        raise OutputExists(f"{out} already exists; give another name or delete it")
    if not resume and any((work / part / "training.pt").exists() for part in ("teacher", "student")):
        raise OutputExists(f"{work} holds a training that was begun; add --resume to go on, or delete it")
    try:
        work.mkdir(parents=True, exist_ok=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        probe = out.with_name(f".{out.name}.probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise NotWritable(f"{out} cannot be written ({error.strerror}); choose another place") from error


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Run with this many torch threads, then with as many as before."""
    if count is not None and not 1 <= count <= 1024:
        raise InvalidValue(f"threads is {count}; it must be 1 to 1024")
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
