"""What every engine says of the file it wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitlet.engines import mixes
from vitlet.errors import InvalidValue, ModelUnreadable, Unsupported
from vitlet.records import Artifact, Classifier, Device, Precision

if TYPE_CHECKING:
    from torch import nn

    from vitlet.data.calibration import Calibration
    from vitlet.engines import Engine


#: The last words of the operations that multiply activations by each other ("blocks.0.attention.scores").
ATTENTION_PRODUCTS = ("scores", "weighted_sum")


def require_variant(
    engine: Engine,
    precision: Precision,
    calibration: Calibration | None = None,
    device: Device = "cpu",
    *,
    devices: tuple[Device, ...] = ("cpu",),
) -> None:
    """Refuse a precision or device that the engine does not know, and calibration that is missing.

    Raises:
        Unsupported: the message lists those it knows.
        InvalidValue: the precision is calibrated and there is no calibration.
    """
    known = engine.precisions()
    if precision.in_float and not mixes(engine, precision):
        plain = replace(precision, in_float=())
        raise Unsupported(f"engine {engine.name!r} cannot leave operations of {plain} in float in vitlet")
    if replace(precision, in_float=()) not in known:
        raise Unsupported(f"engine {engine.name!r} has no {precision}; it has {', '.join(map(str, known))}")
    if device not in devices:
        raise Unsupported(f"engine {engine.name!r} does not run on {device} in vitlet; it runs on {', '.join(devices)}")
    if precision.is_calibrated and calibration is None:
        raise InvalidValue(f"{engine.name} {precision} learns its ranges from images; give calibration images")


def require_operations(precision: Precision, classifier: Classifier) -> None:
    """Refuse operations to be left in float that the model does not have.

    Raises:
        InvalidValue: the message names the first of them.
    """
    modules = {name for name, _ in classifier.module.named_modules()}
    for name in precision.in_float:
        parent, _, product = name.rpartition(".")
        if name not in modules and not (product in ATTENTION_PRODUCTS and parent in modules):
            raise InvalidValue(
                f"{name!r} is no operation of {classifier.reference}; `vitlet inspect` lists those there are"
            )


def without_attention_products(operations: Sequence[str]) -> tuple[str, ...]:
    """Those that are modules with weights."""
    return tuple(name for name in operations if name.rpartition(".")[2] not in ATTENTION_PRODUCTS)


def require_same_artifact(path: Path, expected: Mapping[str, object], written: Mapping[str, object]) -> None:
    """Refuse a file that says other things of itself than are ``expected`` of it.

    Raises:
        ModelUnreadable: the message lists what differs.
    """
    differing = [key for key, value in expected.items() if written.get(key) != value]
    if differing:
        found = ", ".join(f"{key} {written.get(key)!r} instead of {expected[key]!r}" for key in differing)
        raise ModelUnreadable(f"{path} is another artifact ({found}); export the model again")


def with_ending(path: Path, ending: str) -> Path:
    """``path`` with ``ending`` put behind it; dots in the name ("vit.v2") are no suffix."""
    return path.with_name(path.name + ending)


def describe(
    engine: Engine,
    classifier: Classifier,
    precision: Precision,
    path: Path,
    note: str = "",
    *,
    companions: tuple[str, ...] = (),
    device: Device = "cpu",
) -> Artifact:
    """The record of the artifact that ``engine`` has just written to ``path`` and the companions beside it."""
    architecture = classifier.architecture
    files = (path, *(path.with_suffix(suffix) for suffix in companions))
    kept = f"in float: {', '.join(precision.in_float)}" if precision.in_float else ""
    return Artifact(
        engine=engine.name,
        precision=precision,
        path=path,
        size_bytes=sum(file.stat().st_size for file in files),
        height=architecture.image_height,
        width=architecture.image_width,
        classes=architecture.classes,
        note="; ".join(filter(None, (note, kept))),
        companions=companions,
        device=device,
    )


def int8_note(int8_weights: int, module: nn.Module) -> str:
    """What to tell of an export that made so many of ``module``'s weights int8; mostly nothing.

    Raises:
        Unsupported: there are none.
    """
    if int8_weights == 0:
        raise Unsupported("the model has no Linear layer that could be quantized; use fp32")
    share = int8_weights / sum(parameter.numel() for parameter in module.parameters())
    if share >= 0.5:
        return ""
    return f"only {share:.0%} of the weights are int8: the others are in layers that stay as they are"
