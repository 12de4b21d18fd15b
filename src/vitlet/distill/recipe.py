"""The settings of a training, as frozen values: what a recipe file may say, and within which limits.

Names of sources: "DeiT" is arXiv 2012.12877, its tables and the training script of its repository
(facebookresearch/deit, ``main.py``, whose defaults are the paper's).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from vitlet.errors import InvalidValue
from vitlet.records import Interpolation

Kind: TypeAlias = Literal["none", "soft", "hard"]
Through: TypeAlias = Literal["class", "token", "both"]
Head: TypeAlias = Literal["average", "class", "distillation"]

#: The share of the teacher in the loss that the paper has (DeiT section 3; eq. 3 is of equal parts).
PAPER_WEIGHTS = {"none": 0.0, "soft": 0.1, "hard": 0.5}

#: The teacher that is trained first, on the same data (``vitlet.models.small_resnet``).
SMALL_RESNET = "small-resnet"


def _check(record: object, limits: Mapping[str, tuple[float, float]]) -> None:
    for name, (least, most) in limits.items():
        value = getattr(record, name)
        if not least <= value <= most:  # NaN fails this too
            raise InvalidValue(f"{type(record).__name__.lower()}.{name} is {value}; it must be {least:g} to {most:g}")


@dataclass(frozen=True)
class Student:
    """Which ViT learns.

    ``model`` names one (``timm:deit_tiny_distilled_patch16_224``, a checkpoint, any model
    reference); empty, it is a ViT of the sizes below. ``start`` names the model whose weights it
    begins with, ``random`` none (then ``initialisation`` draws them: "deit" truncated normal of
    width 0.02, "xavier" for narrow ViTs, see ``vitlet.distill.student``). ``image_size`` in pixels; 0
    takes the model's own, or of a ViT by sizes the data's. Classes are always those of the data,
    and there is a distillation token exactly if the objective asks for one.
    """

    model: str = ""
    start: str = "random"
    image_size: int = 0
    patch: int = 4
    width: int = 96
    depth: int = 6
    heads: int = 3
    mlp_ratio: float = 4.0
    initialisation: Literal["deit", "xavier"] = "deit"

    def __post_init__(self) -> None:
        _check(self, {"image_size": (0, 8192), "patch": (1, 512), "width": (1, 16384), "depth": (1, 512)})
        _check(self, {"heads": (1, 1024), "mlp_ratio": (0.01, 64)})


@dataclass(frozen=True)
class Objective:
    """What the student is trained to do: ``(1 - weight)`` times the cross-entropy with the label,
    plus ``weight`` times how far it is from its teacher.

    ``kind``: "hard" is the cross-entropy with the teacher's decision (DeiT eq. 3, weight 1/2); "soft" the
    Kullback-Leibler divergence of both softmaxes at ``temperature``, times its square (eq. 2: weight
    0.1, temperature 3.0); "none" has no teacher. A ``weight`` of "paper" is the one given here. ``through``
    says which head learns from the teacher: the "class" head itself (usual distillation, no token), the
    distillation head on its "token" (DeiT), or "both", each for a half. ``head`` is what answers at inference
    with a token: one head, or the "average" of both (DeiT's "classification with joint classifiers").
    ``label_smoothing`` softens true labels only, never the teacher's decisions (DeiT section 3).
    """

    kind: Kind = "hard"
    through: Through = "token"
    weight: float | Literal["paper"] = "paper"
    temperature: float = 3.0
    head: Head = "average"
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        if self.weight != "paper":
            _check(self, {"weight": (0, 1)})
        _check(self, {"temperature": (0.01, 1000), "label_smoothing": (0, 0.9)})
        if self.head != "average" and not self.has_token:
            raise InvalidValue(f"objective.head is {self.head!r}, but without a distillation token there is one head")

    @property
    def share(self) -> float:
        """The teacher's share of the loss, as a number."""
        return PAPER_WEIGHTS[self.kind] if self.weight == "paper" else float(self.weight)

    @property
    def has_token(self) -> bool:
        """Whether the student needs a distillation token."""
        return self.kind != "none" and self.through != "class"


@dataclass(frozen=True)
class Training:
    """How long and how fast. Defaults are DeiT's (table 9 and ``main.py``).

    ``batch`` counts images of one optimizer step over all processes together. ``learning_rate`` is for
    a batch of 512 and is scaled in proportion (DeiT section 6: ``lr * batch / 512``); it rises linearly
    from ``warmup_learning_rate`` over ``warmup_epochs``, then falls by a cosine to
    ``final_learning_rate``. ``optimizer`` is any of timm's names. ``weight_decay`` spares biases, norms,
    tokens and positions. ``drop_path`` is the last block's stochastic depth, of ViTs. ``clip_norm`` 0
    clips no gradients; ``ema`` 0 keeps no moving average of the weights, else the average is the
    result. ``bfloat16`` multiplies matrices in bfloat16 under autocast (weights and optimizer stay
    float32), "auto" where the device has instructions for it; ``compile`` runs the model through
    torch.compile, which needs a C++ compiler.
    """

    epochs: int = 300
    batch: int = 1024
    optimizer: str = "adamw"
    learning_rate: float = 5e-4
    warmup_epochs: float = 5.0
    warmup_learning_rate: float = 1e-6
    final_learning_rate: float = 1e-5
    weight_decay: float = 0.05
    drop_path: float = 0.1
    clip_norm: float = 0.0
    ema: float = 0.0
    bfloat16: bool | Literal["auto"] = "auto"
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self, {"epochs": (1, 100_000), "batch": (1, 1_048_576), "learning_rate": (1e-9, 100)})
        _check(self, {"warmup_epochs": (0, self.epochs), "warmup_learning_rate": (0, 100)})
        _check(self, {"final_learning_rate": (0, 100), "weight_decay": (0, 10), "drop_path": (0, 0.9)})
        _check(self, {"clip_norm": (0, 1e9), "ema": (0, 0.999999), "seed": (0, 2**31 - 1)})

    @property
    def peak_learning_rate(self) -> float:
        """The highest learning rate, after scaling by the batch."""
        return self.learning_rate * self.batch / 512


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied, by timm's transforms. Defaults are DeiT's (table 9).

    ``crop``: "resized" cuts a random rectangle of ``area`` (shares of the image) and resizes it; "shifted"
    moves the image by up to ``shift`` pixels, black coming in (DeiT's way for images of 32 pixels);
    "none" resizes alone. ``random_augment`` is timm's text for RandAugment (1909.13719), or empty;
    ``colour_jitter`` is used only without it. ``repeats`` shows each chosen image so often in one
    batch, variously augmented, and so many fewer images an epoch (1902.05509). ``mixup`` (1710.09412)
    and ``cutmix`` (1905.04899) are the alphas of their beta distributions, 0 for none, of which
    ``mix_share`` of the batches get one. ``erase`` is the share of images with a rectangle of noise
    (1708.04896). With ``cycle`` the same variations return after so many epochs, so that stored
    decisions of a teacher can be used again; 0 never repeats one.
    """

    crop: Literal["resized", "shifted", "none"] = "resized"
    area: tuple[float, float] = (0.08, 1.0)
    shift: int = 4
    flip: float = 0.5
    colour_jitter: float = 0.3
    random_augment: str = "rand-m9-mstd0.5-inc1"
    interpolation: Interpolation = "bicubic"
    repeats: int = 3
    mixup: float = 0.8
    cutmix: float = 1.0
    mix_share: float = 1.0
    erase: float = 0.25
    cycle: int = 0

    def __post_init__(self) -> None:
        _check(self, {"shift": (0, 4096), "flip": (0, 1), "colour_jitter": (0, 10), "repeats": (1, 64)})
        _check(self, {"mixup": (0, 100), "cutmix": (0, 100), "mix_share": (0, 1), "erase": (0, 1)})
        _check(self, {"cycle": (0, 100_000)})
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise InvalidValue(f"augmentation.area is {list(self.area)}; it must be two shares, the smaller one first")

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed with one another."""
        return (self.mixup > 0 or self.cutmix > 0) and self.mix_share > 0


@dataclass(frozen=True)
class Teacher:
    """Who teaches: a model reference (``timm:regnety_160``, ``hf:...``, a checkpoint, a bundle), or
    "small-resnet", which is trained first, by ``training`` and ``augmentation``; ``label_smoothing`` is that
    of its labels then."""

    #: RegNetY-16GF as DeiT trained it, the best teacher of its table 2. (timm's default weights are others.)
    model: str = "timm:regnety_160.deit_in1k"
    label_smoothing: float = 0.1
    training: Training = field(default_factory=Training)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        _check(self, {"label_smoothing": (0, 0.9)})
        if not self.model.strip():
            raise InvalidValue("teacher.model is empty; name a model, or small-resnet to train one")


@dataclass(frozen=True)
class Recipe:
    """All of it; see ``vitlet.distill.recipe_file`` for the files."""

    student: Student = field(default_factory=Student)
    teacher: Teacher = field(default_factory=Teacher)
    objective: Objective = field(default_factory=Objective)
    training: Training = field(default_factory=Training)
    augmentation: Augmentation = field(default_factory=Augmentation)
