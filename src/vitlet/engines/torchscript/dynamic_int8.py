"""Dynamic int8 quantization of Linear layers, and the choice of the library that multiplies.

PyTorch keeps that choice in one process-wide setting, ``torch.backends.quantized.engine``. It is
read when the int8 weights are packed: on quantizing and again on *loading* a file, whose weights
are stored unpacked. The packed weights then carry their own kernels, so the setting means nothing
at run time, and sessions with different kernels can live side by side. (Seen on PyTorch 2.12 to
2.15, over all pairs of qnnpack, x86, onednn at load and at first run; the tests hold it.) The file
itself does not depend on the setting.

Activations get one scale per tensor, and so per *batch*: at batch sizes above 1 the logits of an
image depend a little on its neighbours.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from vitlet.engines.torch.threads import start_pool
from vitlet.engines.torchscript.program import without_deprecations
from vitlet.errors import Unsupported


@contextmanager
def using_kernels(kernels: str) -> Iterator[None]:
    """Pack int8 weights for ``kernels`` inside the ``with`` block; empty changes nothing.

    The setting is process-wide; the one before is put back.

    Raises:
        Unsupported: this PyTorch has no such kernels here; the message lists those it has.
    """
    settings: Any = torch.backends.quantized
    if not kernels:
        yield
        return
    if kernels not in settings.supported_engines:
        have = ", ".join(name for name in settings.supported_engines if name != "none") or "none"
        raise Unsupported(f"PyTorch {torch.__version__} has no {kernels} kernels on this machine; it has: {have}")
    before = settings.engine
    settings.engine = kernels
    try:
        yield
    finally:
        settings.engine = before


def quantize_linears(module: nn.Module, example: Tensor, kernels: str) -> tuple[nn.Module, str]:
    """Return a copy of ``module`` whose Linear layers have int8 weights (one scale per tensor) and
    quantize their input as it comes, and a note on what stayed fp32.

    A Linear layer whose weight the model reads itself, past the layer's own ``forward`` (BEiT,
    Swin v2), stays as it is; one run over ``example`` [batch, 3, height, width] tells which.

    Raises:
        Unsupported: no such kernels here, no Linear layer to quantize, or a PyTorch without eager
            quantization.
    """
    quantize_dynamic = _quantize_dynamic()
    quantized = copy.deepcopy(module)
    # Only exactly nn.Linear has a quantized counterpart in PyTorch's table; subclasses stay as they are.
    names = {name for name, part in quantized.named_modules() if type(part) is nn.Linear}
    called = _called(quantized, names, example)
    if not called:
        raise Unsupported("the model has no Linear layer that could be quantized; use fp32")
    int8_weights = sum(quantized.get_parameter(f"{name}.weight").numel() for name in called)
    share = int8_weights / sum(parameter.numel() for parameter in quantized.parameters())
    with using_kernels(kernels), without_deprecations():
        quantize_dynamic(quantized, called, dtype=torch.qint8, inplace=True)
    return quantized, _note(len(names - called), len(names), share)


@cache
def spend_qnnpack_notice() -> None:
    """Let PyTorch say its one notice per process about qnnpack here, where it can be kept back.

    At its first int8 Linear, qnnpack says that it ignores ``reduce_range`` (it needs no such thing:
    it does not overflow). The lite interpreter would print that to the user's standard error.
    """
    if "qnnpack" not in torch.backends.quantized.supported_engines:
        return
    start_pool()
    source = """
def multiply(image: Tensor, weight: Tensor) -> Tensor:
    return torch.ops.quantized.linear_dynamic(image, torch.ops.quantized.linear_prepack(weight, None), True)
"""
    with using_kernels("qnnpack"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weight = torch.quantize_per_tensor(torch.zeros(1, 1), 1.0, 0, torch.qint8)
        torch.jit.CompilationUnit(source).multiply(torch.zeros(1, 1), weight)


def _quantize_dynamic() -> Callable[..., nn.Module]:
    try:
        from torch.ao.quantization import quantize_dynamic
    except ImportError as error:
        raise Unsupported(
            f"PyTorch {torch.__version__} no longer has torch.ao.quantization.quantize_dynamic; "
            "pin torch 2.12.1, or use fp32"
        ) from error
    return quantize_dynamic


def _called(module: nn.Module, names: set[str], example: Tensor) -> set[str]:
    """Which of the submodules ``names`` run their own ``forward`` on ``example``."""
    called: set[str] = set()

    def watch(name: str) -> Any:
        return module.get_submodule(name).register_forward_pre_hook(lambda *_: called.add(name))

    handles = [watch(name) for name in names]
    with torch.no_grad():
        module(example)
    for handle in handles:
        handle.remove()
    return called


def _note(left: int, linears: int, share: float) -> str:
    parts = []
    if left:
        parts.append(f"{left} of {linears} Linear layers stay fp32: the model reads their weights itself")
    if share < 0.5:
        parts.append(f"only {share:.0%} of the weights are int8: the others are not in Linear layers")
    return "; ".join(parts)
