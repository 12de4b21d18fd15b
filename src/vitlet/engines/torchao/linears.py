"""torchao's int8 linears, compiled."""

from __future__ import annotations

import copy
from pathlib import Path

from torch import Tensor, nn

from vitlet.engines.inductor.compile import write_package
from vitlet.engines.inductor.pt2e import require_torchao
from vitlet.engines.torch.processor import require_device, require_int8_dot_product
from vitlet.engines.torchscript.program import evaluation_module
from vitlet.errors import Unsupported
from vitlet.records import Classifier, Device, Precision


def write_int8_linears(engine: str, classifier: Classifier, precision: Precision, target: Path, device: Device) -> None:
    """Quantize a copy of the classifier's linears, compile it and write it to ``target``.

    Raises:
        Unsupported: it cannot be had here; says why.
        NotWritable: the file cannot be written.
    """
    require_torchao()
    require_device(device)
    if device == "cpu":
        require_int8_dot_product()
    if not any(type(part) is nn.Linear for part in classifier.module.modules()):
        raise Unsupported("the model has no Linear layer that could be quantized; use fp32")
    module = copy.deepcopy(evaluation_module(classifier)).to(device)
    write_package(module, target, engine, classifier, precision, device, _quantized)


def _quantized(module: nn.Module, example: Tensor) -> nn.Module:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    # Its settings for Inductor are process-wide, and meant for GPUs.
    quantize_(module, Int8DynamicActivationInt8WeightConfig(set_inductor_config=False))
    return module
