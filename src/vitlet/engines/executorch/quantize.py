"""Quantization whose products XNNPACK computes in int8."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from vitlet.data.calibration import Calibration
from vitlet.engines.executorch.program import is_average
from vitlet.errors import Unsupported
from vitlet.records import Precision

#: Weights of one output that share a scale in int4; the least that XNNPACK has.
GROUP = 32

#: How much of a group's largest weight its int4 scale may reach to.
_SHARES = (1.0, 0.95, 0.9, 0.85, 0.8)


def quantize_dynamically(module: nn.Module, precision: Precision) -> tuple[nn.Module, str]:
    """Return a copy of ``module`` whose Linear layers have int8 weights, one scale for each output, or
    int4 weights, one scale for each group of 32; activations get int8 scales as they come, one for
    each token. The second is a note, if most weights stay fp32.

    By torchao's layers and not by PT2E, which knows one scale for the whole tensor only: the outlier
    tokens of a ViT then coarsen all others. In int4-dynamic the heads keep int8 weights, whose error
    goes into the logits as it is; so does a layer whose input is no multiple of 32.

    Raises:
        Unsupported: there is no Linear layer.
    """
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerAxis

    linears = [part for part in module.modules() if type(part) is nn.Linear]
    if not linears:
        raise Unsupported("the model has no Linear layer that could be quantized; use fp32")
    share = sum(part.weight.numel() for part in linears) / sum(values.numel() for values in module.parameters())
    # Weights are replaced and not changed, so the copy may share them with the caller's module.
    shared: dict[int, Any] = {id(values): values for values in [*module.parameters(), *module.buffers()]}
    quantized = copy.deepcopy(module, shared)

    def is_grouped(part: nn.Module, name: str) -> bool:
        fits = type(part) is nn.Linear and part.in_features % GROUP == 0 and "head" not in name
        return fits and precision.name == "int4-dynamic"

    int8 = Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int8, weight_granularity=PerAxis(0))
    quantize_(quantized, int8, lambda part, name: type(part) is nn.Linear and not is_grouped(part, name))
    for name, part in quantized.named_modules():
        if is_grouped(part, name):
            weight: Any = _int4(part.weight.detach())
            part.weight = nn.Parameter(weight, requires_grad=False)
    return quantized, _note(share, precision)


def _int4(weight: Tensor) -> Any:
    """torchao's tensor for weight [outputs, inputs], whose scales are those of ``_int4_scales``."""
    from torchao.quantization import IntxUnpackedToInt8Tensor

    dtypes: Any = torch  # int4 is missing from its type stubs
    scales = _int4_scales(weight)
    return IntxUnpackedToInt8Tensor.from_hp(
        weight,
        (1, GROUP),
        dtypes.int4,
        activation_quantization="int8_asym_per_token",
        intx_choose_qparams_algorithm=None,
        custom_scale=scales,
        custom_zero_point=torch.zeros_like(scales, dtype=torch.int8),
    )


def _int4_scales(weight: Tensor) -> Tensor:
    """weight: [outputs, inputs] -> scales [outputs, inputs / 32]: of some that clip a group's largest weight
    more or less, the one with the least squared error; as XNNPACK stores them, in bfloat16.
    """
    groups = weight.reshape(len(weight), -1, GROUP)
    peak = torch.maximum(groups.amax(-1) / 7, groups.amin(-1) / -8).clamp_min(1e-8)
    scales, least = peak, torch.full_like(peak, torch.inf)
    for share in _SHARES:
        tried = (peak * share).bfloat16().float()
        steps = tried.unsqueeze(-1)
        errors = ((groups / steps).round_().clamp_(-8, 7) * steps - groups).square_().sum(-1)
        scales, least = torch.where(errors < least, tried, scales), torch.minimum(errors, least)
    return scales


def _note(share: float, precision: Precision) -> str:
    kind = "int8" if precision.name == "int8-dynamic" else "int4 or int8"
    return f"only {share:.0%} of the weights are {kind}: the others are not in Linear layers" if share < 0.5 else ""


def quantize_statically(
    program: torch.export.ExportedProgram, calibration: Calibration
) -> torch.export.ExportedProgram:
    """``program`` with its linears and convolutions in int8: weights with one scale for each output,
    activations with one scale for each tensor, learned from the calibration images one at a time.

    Sums, norms and attention products stay fp32: XNNPACK would add the residual stream in int8 too,
    which costs a ViT its accuracy.
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    settings = get_symmetric_quantization_config(is_per_channel=True)
    aten: Any = torch.ops.aten
    quantizer = XNNPACKQuantizer()
    for operator in (aten.linear.default, aten.conv2d.default):
        quantizer.set_operator_type(operator, settings)
    quantizer.set_filter_function(lambda node: not is_average(node))
    prepared = prepare_pt2e(program.module(), quantizer)
    images = None
    with torch.no_grad():
        for image in calibration:
            images = torch.from_numpy(image)
            prepared(images)
        return torch.export.export(convert_pt2e(prepared), (images,))
