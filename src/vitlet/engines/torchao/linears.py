"""torchao's int8 linears, compiled."""

from __future__ import annotations

import copy
from pathlib import Path

from torch import Tensor, nn

from vitlet.engines.artifacts import int8_note
from vitlet.engines.inductor.compile import write_package
from vitlet.engines.inductor.pt2e import require_torchao
from vitlet.engines.torch.processor import require_device, require_int8_dot_product
from vitlet.engines.torchscript.program import evaluation_module
from vitlet.records import Classifier, Device, Precision


def write_int8_linears(engine: str, classifier: Classifier, precision: Precision, target: Path, device: Device) -> str:
    """Quantize a copy of the classifier's linears, compile it, write it to ``target`` and return a note.

    Raises:
        Unsupported: it cannot be had here; says why.
        NotWritable: the file cannot be written.
    """
    require_torchao()
    require_device(device)
    if device == "cpu":
        require_int8_dot_product()
    module = copy.deepcopy(evaluation_module(classifier)).to(device)
    return write_package(module, target, engine, classifier, precision, device, _quantized)


def _quantized(module: nn.Module, example: Tensor) -> tuple[nn.Module, str]:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    from torchao.utils import TorchAOBaseTensor

    # Its settings for Inductor are process-wide, and meant for GPUs.
    quantize_(module, Int8DynamicActivationInt8WeightConfig(set_inductor_config=False))
    # torchao passes over some subclasses of Linear.
    int8_weights = sum(
        part.weight.numel()
        for part in module.modules()
        if isinstance(part, nn.Linear) and isinstance(part.weight, TorchAOBaseTensor)
    )
    return module, int8_note(int8_weights, module)
