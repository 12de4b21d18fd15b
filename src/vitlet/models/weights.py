"""Weights into a module: every name, shape and number checked, so that none is left out silently."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from vitlet.errors import ModelUnreadable

if TYPE_CHECKING:
    from torch import Tensor, nn


def check_shapes(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], *, origin: str) -> None:
    """Check that ``found`` has exactly the expected tensors.

    Raises:
        ModelUnreadable: a tensor is missing, too many, or of another shape; the message names
            ``origin`` and the first such tensors.
    """
    missing = [name for name in expected if name not in found]
    if missing:
        raise ModelUnreadable(f"{origin} lacks {_some(missing)} that its architecture needs; get the file again")
    extra = [name for name in found if name not in expected]
    if extra:
        raise ModelUnreadable(f"{origin} holds {_some(extra)} that its architecture does not have")
    for name, shape in expected.items():
        if found[name] != shape:
            raise ModelUnreadable(
                f"{origin}: tensor {name} is {_shape(found[name])}, but its architecture needs {_shape(shape)}"
            )


def fill(module: nn.Module, state: Mapping[str, Tensor], *, origin: str) -> nn.Module:
    """Put ``state`` into ``module`` and return it; floating point weights become float32.

    The module may be on the ``meta`` device: it takes the tensors themselves, so hand over ones
    that nobody else changes.

    Raises:
        ModelUnreadable: tensors are missing, too many, of another shape or type, or not finite.
    """
    import torch

    expected = module.state_dict()
    check_shapes(
        {name: tuple(tensor.shape) for name, tensor in expected.items()},
        {name: tuple(tensor.shape) for name, tensor in state.items()},
        origin=origin,
    )
    for name, tensor in state.items():
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise ModelUnreadable(f"{origin}: tensor {name} has type {tensor.dtype}, not {expected[name].dtype}")
    ready = {name: tensor.to(expected[name].dtype).contiguous() for name, tensor in state.items()}
    for name, tensor in ready.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelUnreadable(f"{origin}: tensor {name} holds numbers that are not finite; get the file again")
    on_meta = any(tensor.is_meta for tensor in expected.values())
    module.load_state_dict(ready, strict=True, assign=on_meta)
    return module


def _some(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(names[:3])
    return f"{len(names)} tensors ({shown}, ...)" if len(names) > 3 else f"tensor {shown}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"
