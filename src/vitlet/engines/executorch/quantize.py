"""Quantization whose products XNNPACK computes in int8."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from vitlet.data.calibration import Calibration
from vitlet.engines.executorch.program import is_average
from vitlet.records import Precision

#: Weights of one output that share a scale in int4; the least that XNNPACK has.
GROUP = 32


def quantize_dynamically(module: nn.Module, precision: Precision) -> nn.Module:
    """Return a copy of ``module`` whose Linear layers have int8 weights, one scale for each output, or
    int4 weights, one scale for each group of 32; activations get int8 scales as they come, one for
    each token.

    By torchao's layers and not by PT2E, which knows one scale for the whole tensor only: the outlier
    tokens of a ViT then coarsen all others. In int4-dynamic the heads keep int8 weights, whose error
    goes into the logits as it is; so does a layer whose input is no multiple of 32.
    """
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerAxis, PerGroup

    # Weights are replaced and not changed, so the copy may share them with the caller's module.
    shared: dict[int, Any] = {id(values): values for values in [*module.parameters(), *module.buffers()]}
    quantized = copy.deepcopy(module, shared)

    def is_grouped(part: nn.Module, name: str) -> bool:
        fits = type(part) is nn.Linear and part.in_features % GROUP == 0 and "head" not in name
        return fits and precision.name == "int4-dynamic"

    dtypes: Any = torch  # int4 is missing from its type stubs
    int8 = Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int8, weight_granularity=PerAxis(0))
    int4 = Int8DynamicActivationIntxWeightConfig(weight_dtype=dtypes.int4, weight_granularity=PerGroup(GROUP))
    quantize_(quantized, int8, lambda part, name: type(part) is nn.Linear and not is_grouped(part, name))
    quantize_(quantized, int4, is_grouped)
    return quantized


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
