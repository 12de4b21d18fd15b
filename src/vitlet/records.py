"""The frozen values that travel between the rooms, each checked when it is made.

Everything here but ``Classifier`` (which holds a live module) goes to JSON and back through
``to_json`` and ``from_json``; a value that does not fit its type is refused with its place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import msgspec

from vitlet.errors import InvalidValue

if TYPE_CHECKING:
    import torch

Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Status: TypeAlias = Literal["ok", "unsupported", "failed", "left out"]
Pool: TypeAlias = Literal["token", "mean", "token+mean"]
Activation: TypeAlias = Literal["gelu", "gelu_tanh", "quick_gelu"]
Device: TypeAlias = Literal["cpu", "cuda"]
PrecisionName: TypeAlias = Literal[
    "fp32",
    "fp16",
    "bf16",
    "int8-dynamic",
    "int8-static",
    "int8-static-bf16",
    "int8-weights",
    "int4-weights",
    "int4-dynamic",
]
#: What an operator computes in; "data" is for those that only move or convert (copy, transpose, cast).
Arithmetic: TypeAlias = Literal["int4", "int8", "fp16", "bf16", "fp32", "data"]

_Record = TypeVar("_Record")


def to_json(record: object) -> Any:
    """Return ``record`` as plain dicts, lists, strings and numbers; every field is named."""
    return msgspec.to_builtins(_with_all_fields(record), enc_hook=_encode)


def from_json(data: object, kind: type[_Record]) -> _Record:
    """Build a ``kind`` from plain JSON values.

    Raises:
        InvalidValue: a field is missing, unknown in type, or out of range; the message says where.
    """
    try:
        return msgspec.convert(data, kind, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise InvalidValue(f"not a valid {kind.__name__}: {error}") from error


def _with_all_fields(value: Any) -> Any:
    """Dataclasses as dicts: msgspec would leave out the fields that it left to the class when it read the record."""
    if is_dataclass(value):
        return {field.name: _with_all_fields(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: _with_all_fields(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_with_all_fields, value))
    return value


def _encode(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"cannot write {type(value).__name__} as JSON")


def _decode(kind: type, value: object) -> object:
    if issubclass(kind, Path) and isinstance(value, str):
        return kind(value)
    raise NotImplementedError(f"cannot read {kind.__name__} from JSON")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidValue(message)


@dataclass(frozen=True)
class ImageSpec:
    """How a file becomes the model's input: decode, RGB, resize, centre crop, /255, normalise.

    ``resize`` is an int (the *shorter* edge gets this many pixels, aspect kept: timm's ``center``
    crop mode) or ``(height, width)`` (exactly this size, aspect lost: timm's ``squash``, Hugging
    Face's ``ViTImageProcessor``). Then ``height`` x ``width`` pixels are cut from the centre.
    ``mean`` and ``std`` are per RGB channel on the 0..1 scale. ``crop_rounding`` says where the crop
    starts when an odd number of pixels is cut off (or padded): at the half rounded to even
    (torchvision, so timm and DeiT) or rounded down (transformers).
    """

    height: int
    width: int
    resize: int | tuple[int, int]
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    crop_rounding: Literal["even", "down"] = "even"

    def __post_init__(self) -> None:
        edges = (self.resize,) if isinstance(self.resize, int) else self.resize
        for name, value in (("height", self.height), ("width", self.width), *(("resize", e) for e in edges)):
            _require(1 <= value <= 8192, f"ImageSpec.{name} is {value}; it must be 1 to 8192 pixels")
        _require(all(math.isfinite(m) for m in self.mean), f"ImageSpec.mean {self.mean} must be finite")
        _require(all(math.isfinite(s) and s > 0 for s in self.std), f"ImageSpec.std {self.std} must be above 0")


@dataclass(frozen=True)
class VitArchitecture:
    """Every switch of the canonical ViT (``vitlet.models.vit``); sizes in pixels, tokens, channels.

    ``prefix_tokens`` stand before the patch tokens: class token (if any), distillation token (if
    any), registers, in this order. ``pool`` is what the head reads: the class token, the mean of
    the patch tokens, or both concatenated (DINOv2). ``final_norm`` is the LayerNorm before
    pooling, ``pool_norm`` the one after it. ``pre_logits`` is the width of the tanh layer of the
    original ViT, 0 for none.
    """

    image_height: int
    image_width: int
    patch: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    classes: int
    class_token: bool = True
    distillation_token: bool = False
    registers: int = 0
    pool: Pool = "token"
    qkv_bias: bool = True
    layer_scale: bool = False
    pre_norm: bool = False
    final_norm: bool = True
    pool_norm: bool = False
    pre_logits: int = 0
    position: Literal["learned", "sincos"] = "learned"
    activation: Activation = "gelu"
    norm_eps: float = 1e-6
    patch_bias: bool = True
    kind: Literal["vit"] = "vit"

    def __post_init__(self) -> None:
        limits = {"patch": 512, "width": 16384, "depth": 512, "heads": 1024, "mlp_width": 131072}
        limits |= {"classes": 1_000_000, "image_height": 8192, "image_width": 8192}
        for name, most in limits.items():
            value = getattr(self, name)
            _require(1 <= value <= most, f"VitArchitecture.{name} is {value}; it must be 1 to {most}")
        for name, most in (("registers", 1024), ("pre_logits", 131072)):
            value = getattr(self, name)
            _require(0 <= value <= most, f"VitArchitecture.{name} is {value}; it must be 0 to {most}")
        _require(self.width % self.heads == 0, f"width {self.width} is no multiple of heads {self.heads}")
        _require(
            self.image_height >= self.patch and self.image_width >= self.patch,
            f"a {self.image_height}x{self.image_width} image holds no patch of {self.patch}",
        )
        _require(self.class_token or self.pool == "mean", f"pool {self.pool!r} needs a class token")
        _require(
            not self.distillation_token or self.pool == "token",
            "a distillation token needs pool 'token': each of its two heads reads its own token",
        )
        _require(0 < self.norm_eps < 1, f"norm_eps is {self.norm_eps}; it must be between 0 and 1")
        _require(
            self.position != "sincos" or self.width % 4 == 0,
            f"sine-cosine positions need a width that is a multiple of 4, not {self.width}",
        )

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the patch tokens."""
        return int(self.class_token) + int(self.distillation_token) + self.registers

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        return self.image_height // self.patch, self.image_width // self.patch


@dataclass(frozen=True)
class TimmArchitecture:
    """A timm classifier that is no canonical ViT (Swin, RegNet, ...): rebuilt by timm by name."""

    name: str
    classes: int
    image_height: int
    image_width: int
    options: Mapping[str, int | float | bool | str] = field(default_factory=dict)
    kind: Literal["timm"] = "timm"

    def __post_init__(self) -> None:
        _require(
            re.fullmatch(r"[a-z0-9_]+(\.[a-zA-Z0-9_.]+)?", self.name) is not None,
            f"timm model name {self.name!r} is malformed",
        )


Architecture: TypeAlias = VitArchitecture | TimmArchitecture


def architecture_from_json(data: object) -> Architecture:
    """Read either architecture by its ``kind``.

    Raises:
        InvalidValue: it is neither, or a field is out of range.
    """
    kind = data.get("kind") if isinstance(data, Mapping) else None
    if kind == "vit":
        return from_json(data, VitArchitecture)
    if kind == "timm":
        return from_json(data, TimmArchitecture)
    raise InvalidValue(f"architecture kind is {kind!r}; it must be 'vit' or 'timm'")


@dataclass(frozen=True)
class Classifier:
    """A model that can be compressed: images float32 [batch, 3, height, width] -> logits float32
    [batch, classes].

    ``module`` is in eval mode on the CPU and is never changed in place. ``architecture`` is
    enough to rebuild it. ``reference`` is what the user typed, ``library`` where the weights came
    from ("timm", "hf", "deit", "checkpoint", "bundled"). With ``random_weights`` they were drawn
    from ``seed``. ``note`` says what a person should know of how it was loaded ("kept as timm's
    own module: ..."); mostly empty.
    """

    module: torch.nn.Module
    architecture: Architecture
    image_spec: ImageSpec
    labels: tuple[str, ...]
    reference: str
    library: str
    random_weights: bool = False
    seed: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        expected = self.architecture.classes
        _require(
            len(self.labels) == expected,
            f"{self.reference}: {len(self.labels)} labels for {expected} classes; give one label per class",
        )


@dataclass(frozen=True)
class Precision:
    """The choice of arithmetic, small and serialisable.

    ``name`` is one of

    - "fp32", "fp16", "bf16": weights and products;
    - "int8-dynamic": int8 weights, activations quantized as they come, by their own range;
    - "int8-static": int8 weights, activations quantized by ranges learned from calibration images;
    - "int8-static-bf16": the same, and what is not int8 runs in bf16;
    - "int8-weights", "int4-weights": only the weights are small, the products are float;
    - "int4-dynamic": int4 weights, activations int8, quantized as they come.

    ``kernels`` picks the library that multiplies, where a runtime has several ("qnnpack", "x86",
    "onednn"); empty otherwise. ``in_float`` are operations that stay in float, as ``vitlet inspect`` calls them
    ("blocks.3.mlp.down"), where an int8 precision would cost too much there. ``str()`` joins them with dashes, the
    operations by their number: "int8-dynamic-qnnpack", "int8-static-3float".
    """

    name: PrecisionName
    kernels: Literal["", "qnnpack", "x86", "onednn"] = ""
    in_float: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(
            not self.in_float or self.name.startswith("int8-"),
            f"operations can be left in float in int8 precisions, not in {self.name}",
        )
        _require(len(set(self.in_float)) == len(self.in_float), f"{self} names an operation twice")

    def __str__(self) -> str:
        kept = f"{len(self.in_float)}float" if self.in_float else ""
        return "-".join(filter(None, (self.name, self.kernels, kept)))

    @property
    def is_calibrated(self) -> bool:
        """Whether exporting in it needs calibration images."""
        return self.name.startswith("int8-static")


@dataclass(frozen=True)
class Artifact:
    """An exported model on disk, enough to be opened by a process that never saw the model.

    ``path`` is the file that the runtime opens; ``companions`` are the suffixes of further files it
    needs, which differ from ``path`` in their suffix alone (".bin" beside "model.xml").
    ``size_bytes`` counts them all. ``height``, ``width`` are the input's pixels. ``device`` is where
    it runs. ``note`` says what a person should know of how it was made ("traced: the model cannot
    be scripted").
    """

    engine: str
    precision: Precision
    path: Path
    size_bytes: int
    height: int
    width: int
    classes: int
    note: str = ""
    companions: tuple[str, ...] = ()
    device: Device = "cpu"

    def __post_init__(self) -> None:
        _require(self.size_bytes > 0, f"artifact {self.path} has no bytes")
        for suffix in self.companions:
            _require(
                re.fullmatch(r"\.[A-Za-z0-9_]+", suffix) is not None and suffix != self.path.suffix,
                f"companion suffix {suffix!r} of {self.path} must be a dot and letters, and not its own",
            )

    @property
    def files(self) -> tuple[Path, ...]:
        """All its files, the one that the runtime opens first."""
        return (self.path, *(self.path.with_suffix(suffix) for suffix in self.companions))


@dataclass(frozen=True)
class OperatorUse:
    """The operators of one kind that a runtime ran for one image.

    ``name`` is the runtime's own word; ``arithmetic`` what they compute in. ``time_ms`` is their time
    together for one image; ``None`` where the runtime does not tell.
    """

    name: str
    arithmetic: Arithmetic
    count: int
    time_ms: float | None = None

    def __post_init__(self) -> None:
        _require(self.count >= 1, f"OperatorUse.count of {self.name} is {self.count}; it must be 1 or more")


@dataclass(frozen=True)
class Fusion:
    """How many of the model's ``of`` sub-graphs of a kind the runtime runs as one operator.

    ``what`` is "attention", "layer norm" or "gelu".
    """

    what: str
    done: int
    of: int

    def __post_init__(self) -> None:
        _require(0 <= self.done <= self.of, f"{self.done} of {self.of} {self.what} cannot be fused")


@dataclass(frozen=True)
class Execution:
    """What a runtime really did with an artifact, in one form for all of them.

    ``operators`` stand in falling order of time, or of number where there are no times. ``undelegated`` are
    operators that ran outside the accelerated part of a runtime that splits the graph, as
    name -> number. ``source`` says how this is known ("ONNX Runtime's profile of 20 runs").
    ``notes`` are whole sentences about what was left undone and why.
    """

    operators: tuple[OperatorUse, ...]
    source: str
    fusions: tuple[Fusion, ...] = ()
    undelegated: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Availability:
    """Whether something can run here and, if not, why and what to do about it."""

    ok: bool
    reason: str = ""

    def __post_init__(self) -> None:
        _require(self.ok or bool(self.reason), "an unavailable thing must say why")


@dataclass(frozen=True)
class Environment:
    """The machine and software that a measurement was taken on."""

    processor: str
    architecture: str
    instruction_sets: tuple[str, ...]
    cores: int
    memory_bytes: int
    system: str
    python: str
    packages: Mapping[str, str]
    threads: int


@dataclass(frozen=True)
class Measurement:
    """What was measured of one variant, raw samples included; ``None`` where it was not.

    ``latency_samples_ms`` holds one tuple for each process that timed it, in order: one image in,
    logits out, preprocessing excluded. ``logits_error`` is the relative L2 distance to the
    uncompressed model's logits, ``agreement`` the share of images with the same top answer,
    ``top1``/``top5`` the shares of labelled images answered right. ``peak_memory_bytes`` is the
    process's resident high-water mark less what it held with the runtime imported, before the
    artifact was opened.

    ``calibration_error`` is the expected calibration error of the softmax probabilities on labelled
    images (arXiv 1706.04599, 15 bins of equal width): how far the model's confidence is from its
    accuracy. ``end_to_end_samples_ms`` start from the bytes of an image file: decode, resize,
    normalise, run. ``streams_images_per_s`` is the throughput of ``streams`` sessions at once, each with
    one thread. ``execution`` is what the runtime really did.

    ``random_inputs`` is the number of seeded random inputs that stood in where there were no
    images (then ``images`` is 0, and ``logits_error`` and ``agreement`` are of those inputs).
    ``quick`` marks a measurement that was too short to be trusted to a few per cent. ``note`` is the
    artifact's.
    """

    engine: str
    precision: str
    status: Status
    reason: str = ""
    latency_samples_ms: tuple[tuple[float, ...], ...] = ()
    size_bytes: int | None = None
    peak_memory_bytes: int | None = None
    load_ms: float | None = None
    first_ms: float | None = None
    throughput_images_per_s: float | None = None
    throughput_batch: int | None = None
    streams_images_per_s: float | None = None
    streams: int | None = None
    end_to_end_samples_ms: tuple[float, ...] = ()
    logits_error: float | None = None
    agreement: float | None = None
    top1: float | None = None
    top5: float | None = None
    calibration_error: float | None = None
    images: int = 0
    labelled_images: int = 0
    random_inputs: int = 0
    quick: bool = False
    device: Device = "cpu"
    environment: Environment | None = None
    execution: Execution | None = None
    note: str = ""

    def __post_init__(self) -> None:
        _require(self.status == "ok" or bool(self.reason), f"{self.engine}: a row without result must say why")
        for name in ("agreement", "top1", "top5", "calibration_error"):
            value = getattr(self, name)
            _require(value is None or 0 <= value <= 1, f"Measurement.{name} is {value}; it must be 0 to 1")


@dataclass(frozen=True)
class Parity:
    """How far vitlet's own path is from the library that the model came from.

    Maximal absolute differences over ``images`` images; ``None`` where that half could not be
    compared, and then ``reason`` says why. ``library`` is "timm 1.0.31" or the like.
    """

    library: str
    images: int = 0
    preprocessing_max_abs: float | None = None
    logits_max_abs: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Progress:
    """One step of a long job, for whoever shows it: ``done`` of ``total`` in ``stage``. A ``milestone`` is worth a
    line of its own in a log."""

    stage: str
    detail: str = ""
    done: int = 0
    total: int = 0
    milestone: bool = False


ProgressCallback: TypeAlias = Callable[[Progress], None]


def no_progress(_: Progress) -> None:
    """Show nothing."""
