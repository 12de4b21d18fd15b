"""The whole of ``vitlet distill``: data in, teacher trained or loaded, student trained, checkpoint out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from vitlet.data.datasets import load_dataset
from vitlet.data.labelled import LabelledImages, LabelledPixels
from vitlet.distill.decisions import DecisionStore, digest
from vitlet.distill.evaluation import evaluate
from vitlet.distill.events import summary_writer
from vitlet.distill.failures import told
from vitlet.distill.heads import Heads, with_head
from vitlet.distill.processes import DeviceChoice, Processes, all_processes
from vitlet.distill.recipe import SMALL_RESNET, Objective, Recipe
from vitlet.distill.recipe_file import recipe_text
from vitlet.distill.state import Accuracy, Epoch, StateFile
from vitlet.distill.student import make_student, trainable
from vitlet.distill.task import Running, Task, check
from vitlet.distill.teacher import Teacher, load_teacher, of_classifier
from vitlet.distill.trainer import fit, torch_threads
from vitlet.errors import InvalidValue, NotWritable, OutputExists
from vitlet.models.checkpoint import save_checkpoint
from vitlet.models.small_resnet import small_resnet
from vitlet.models.vit import VisionTransformer
from vitlet.records import Classifier, ImageSpec, ProgressCallback, VitArchitecture, no_progress, to_json
from vitlet.whole_file import write_whole


@dataclass(frozen=True)
class Run:
    """What one training run was and what came of it. ``accuracy`` is that of the last epoch's float32
    weights (or their average) in float32 arithmetic on the ``test_images``; no epoch was picked by it.
    """

    model: str
    parameters: int
    epochs: tuple[Epoch, ...]
    accuracy: Accuracy
    train_images: int
    test_images: int
    unreadable_test_images: int
    torch: str
    device: str
    threads: int
    processes: int = 1


@dataclass(frozen=True)
class DistillResult:
    """A trained student, in the checkpoint at ``path``. ``teacher`` is None if none was trained by this
    run; ``taught_by`` names who taught, empty without a teacher."""

    classifier: Classifier
    path: Path
    recipe: Recipe
    student: Run
    teacher: Run | None = None
    taught_by: str = ""


@dataclass(frozen=True)
class Settings:
    """How a recipe is run: nothing here shapes the result but rounding.

    ``work`` keeps the state after each epoch (next to the output by default); with ``resume`` the run
    goes on from there. ``threads`` is torch's number of threads (None: its own choice), ``workers`` how many
    processes read images. ``decisions`` is a folder for the teacher's answers. ``data_root`` is where a named data
    set lies. ``dtype`` is that of the stored weights.
    """

    work: Path | None = None
    resume: bool = False
    device: DeviceChoice = "auto"
    shard: bool = False
    threads: int | None = None
    workers: int = 0
    decisions: Path | None = None
    tensorboard: bool = False
    data_root: Path | None = None
    dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16"):
            raise InvalidValue(f"dtype is {self.dtype!r}; it must be 'float32' or 'float16'")
        if not 0 <= self.workers <= 1024:
            raise InvalidValue(f"workers is {self.workers}; it must be 0 to 1024")


def distill(
    data: str,
    out: Path,
    recipe: Recipe,
    settings: Settings | None = None,
    *,
    find_teacher: Callable[[str], Teacher] = load_teacher,
    progress: ProgressCallback = no_progress,
) -> DistillResult:
    """Train the recipe's student on ``data`` (a name or folder, see ``vitlet.data.datasets``) and write it to
    ``out``, a ``.safetensors`` file.

    Under ``torchrun`` every process calls this with the same arguments; the first one writes.
    ``find_teacher`` makes a teacher of the recipe's reference.

    Raises:
        InvalidValue: a setting is wrong, or the state in ``work`` was begun with others.
        OutputExists: ``out``, or without ``resume`` a state in ``work``, is already there.
        NotWritable: ``out`` cannot be written.
        TrainingFailed: the loss is no number any more, a state cannot be written or read, a process died.
        HubUnreachable, UnreadableImage, NoImages: the data cannot be had.
        ModelNotFound, ModelUnreadable, Unsupported: a model cannot be had.
        KeyboardInterrupt: the user stopped it; its text says how to go on.
    """
    settings = settings or Settings()
    work = settings.work if settings.work is not None else out.with_name(f"{out.stem}.training")
    if settings.tensorboard:
        summary_writer()
    with told(), all_processes(settings.device) as processes, torch_threads(settings.threads):
        # The first process alone may look: another could see what the first has made already.
        processes.first(lambda: _check_paths(out, work, settings.resume))
        train, test = _load(data, settings, processes)
        recipe = _settled(recipe, processes)
        job = _Job(data, train, test, recipe, settings, work, processes, progress)
        classifier, student_task = _student_task(job)
        task = None if recipe.teacher.model != SMALL_RESNET else _teacher_task(job, classifier.image_spec)
        check(student_task, job.running("student"))
        if recipe.objective.kind != "none" and task is not None:
            check(task, job.running("teacher"))
        teacher, taught = _teacher(job, task, find_teacher)
        trained, student = _train_student(job, classifier, student_task, teacher)
        processes.first(lambda: save_checkpoint(trained, out, dtype=settings.dtype))
    return DistillResult(trained, out, recipe, student, taught, "" if teacher is None else teacher.name)


def _settled(recipe: Recipe, processes: Processes) -> Recipe:
    """With what "auto" stands for on these devices: a state, and the recipe beside it, are of one arithmetic."""
    student, teacher = (
        replace(training, bfloat16=processes.bfloat16(training.bfloat16))
        for training in (recipe.training, recipe.teacher.training)
    )
    return replace(recipe, training=student, teacher=replace(recipe.teacher, training=teacher))


def _load(data: str, settings: Settings, processes: Processes) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images; what has to be downloaded is so by one process."""
    found: list[LabelledImages] = []

    def load() -> None:
        found[:] = [load_dataset(data, split, settings.data_root) for split in ("train", "test")]

    processes.first(load)
    if not found:
        load()
    train, test = found
    if train.class_names != test.class_names:
        raise InvalidValue(f"{data} has other classes for training than for testing")
    return train, test


@dataclass(frozen=True)
class _Job:
    """What the parts of a run share."""

    data: str
    train: LabelledImages
    test: LabelledImages
    recipe: Recipe
    settings: Settings
    work: Path
    processes: Processes
    progress: ProgressCallback

    def running(self, stage: str) -> Running:
        curves = self.work / "tensorboard" / stage if self.settings.tensorboard and self.processes.is_main else None
        shard = self.settings.shard and stage == "student"
        return Running(self.processes, self.settings.workers, shard, stage, self.progress, curves)

    def run(self, model: str, parameters: int, epochs: tuple[Epoch, ...], accuracy: Accuracy) -> Run:
        return Run(
            model,
            parameters,
            epochs,
            accuracy,
            self.train.count,
            accuracy.images,
            self.test.count - accuracy.images,
            str(torch.__version__),
            str(self.processes.device),
            torch.get_num_threads(),
            self.processes.world,
        )


def _student_task(job: _Job) -> tuple[Classifier, Task]:
    """The student as it begins, and what it is to learn; its teacher is still to come."""
    recipe = job.recipe
    classifier = make_student(recipe, job.train.class_names, own_spec(job.train), progress=job.progress)
    spec = classifier.image_spec
    return classifier, Task(job.train, job.test, spec, recipe.training, recipe.augmentation, recipe.objective)


def _teacher_task(job: _Job, spec: ImageSpec) -> Task:
    """What a teacher that is trained first learns: the labels, on images as the student sees them."""
    wanted = job.recipe.teacher
    objective = Objective("none", label_smoothing=wanted.label_smoothing)
    return Task(job.train, job.test, spec, wanted.training, wanted.augmentation, objective)


def _teacher(job: _Job, task: Task | None, find_teacher: Callable[[str], Teacher]) -> tuple[Teacher | None, Run | None]:
    if job.recipe.objective.kind == "none":
        return None, None
    if task is not None:
        return _train_teacher(job, task)
    teacher = find_teacher(job.recipe.teacher.model)
    teacher.to(job.processes.device)
    return teacher, None


def _train_teacher(job: _Job, task: Task) -> tuple[Teacher, Run]:
    """Train the small ResNet, going on from a state in ``work``, and keep it as ``work/teacher.safetensors``."""
    classifier = small_resnet(task.spec, job.train.class_names, seed=task.training.seed)
    module = classifier.module
    identity = {"model": SMALL_RESNET, **_identity(job, task)}
    state = StateFile(job.work / "teacher", identity)
    epochs = fit(module, task, state, job.running("teacher"))
    accuracy = _tested(job, module, task, state)
    job.processes.first(lambda: save_checkpoint(classifier, job.work / "teacher.safetensors"))
    teacher = of_classifier(classifier)
    return teacher, job.run(SMALL_RESNET, teacher.parameters, epochs, accuracy)


def _train_student(job: _Job, classifier: Classifier, task: Task, teacher: Teacher | None) -> tuple[Classifier, Run]:
    """Train the student, going on from a state in ``work``."""
    recipe = job.recipe
    identity = {
        "student": to_json(classifier.architecture),
        "start": digest(classifier.module),
        "teacher": "" if teacher is None else teacher.identity,
        **_identity(job, task),
    }
    if teacher is not None:
        task = replace(task, teacher=teacher.for_student(task.spec, job.train.class_names))
    task = replace(task, store=_store(job, task, identity))
    module = trainable(classifier, recipe.training.drop_path)
    state = StateFile(job.work / "student", identity)

    def keep_recipe() -> None:
        if not state.path.exists():  # or it would take the place of the one that was run, before a mistake is noticed
            write_whole(job.work / "recipe.toml", recipe_text(recipe).encode())

    job.processes.first(keep_recipe)
    epochs = fit(module, task, state, job.running("student"))
    plain = _plain(module, classifier.architecture, job)
    accuracy = _tested(job, plain, task, state)
    trained = with_head(replace(classifier, module=plain.cpu(), random_weights=False), recipe.objective.head)
    parameters = sum(p.numel() for p in trained.module.parameters())
    return trained, job.run(classifier.reference, parameters, epochs, accuracy)


def _tested(job: _Job, module: torch.nn.Module, task: Task, state: StateFile) -> Accuracy:
    """What it reaches in the end, on the test images."""
    try:
        return evaluate(Heads(module), job.test, task.spec, processes=job.processes, workers=job.settings.workers)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped in the last test; {state.usable()}") from None


def _plain(module: VisionTransformer, architecture: Any, job: _Job) -> VisionTransformer:
    """The same without stochastic depth, which only training needs, its weights whole."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    assert isinstance(architecture, VitArchitecture)
    plain = VisionTransformer(architecture)
    plain.load_state_dict(get_model_state_dict(module, options=StateDictOptions(full_state_dict=True)))
    return plain.to(job.processes.device).eval()


def _identity(job: _Job, task: Task) -> dict[str, Any]:
    """What shapes a run besides its model: a state is only resumed by the same."""
    return {
        "data": job.train.digest,
        "preprocessing": to_json(task.spec),
        "training settings": to_json(task.training),
        "augmentation": to_json(task.augmentation),
        # Which head answers in the end shapes nothing before.
        "objective": to_json(replace(task.objective, head="average")),
        "number of processes": job.processes.world,
    }


def _store(job: _Job, task: Task, identity: dict[str, Any]) -> DecisionStore | None:
    """Where the teacher's answers are kept: what decides them is who teaches, the images, and how they vary."""
    if job.settings.decisions is None:
        return None
    if task.teacher is None:
        raise InvalidValue("there is no teacher whose decisions could be stored; leave --decisions out")
    decided_by = {name: identity[name] for name in ("data", "preprocessing", "teacher")}
    # How often variations return does not change what the first ones are.
    decided_by["augmentation"] = to_json(replace(task.augmentation, cycle=0))
    # An answer belongs to the very pixels, which these libraries make.
    decided_by["packages"] = {name: version(name) for name in ("timm", "torchvision", "pillow")}
    decided_by |= {"seed": task.training.seed, "batch": task.training.batch, "bfloat16": task.training.bfloat16}
    return DecisionStore(job.settings.decisions, decided_by, task.order.positions, len(job.train.class_names))


def own_spec(data: LabelledImages) -> ImageSpec:
    """The preprocessing for a model that is trained on these images from the start: their own size, mean and standard
    deviation (to four digits, the same in all channels of gray images) where they are pixels in memory; else
    ImageNet's mean and standard deviation at 224 pixels.
    """
    if not isinstance(data, LabelledPixels):
        return ImageSpec(224, 224, 256)
    height, width = data.size
    channels = data.pixels.reshape(-1, 1 if data.pixels.ndim == 3 else 3)
    mean, std = _per_channel(channels.mean(axis=0) / 255), _per_channel(channels.std(axis=0) / 255)
    return ImageSpec(height, width, (height, width), "bilinear", mean, std)


def _per_channel(values: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (round(float(v), 4) for v in np.broadcast_to(values, (3,)))
    return red, green, blue


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
