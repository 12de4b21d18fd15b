"""What is compiled for each precision of the ``inductor`` engine."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vitlet.engines.inductor.compile import write_package
from vitlet.engines.inductor.pt2e import quantized_program, require_torchao
from vitlet.engines.torch.processor import require_bf16, require_device, require_int8_dot_product
from vitlet.engines.torchscript.program import evaluation_module
from vitlet.errors import Unsupported
from vitlet.records import Classifier, Device, Precision

if TYPE_CHECKING:
    from vitlet.data.calibration import Calibration


class InBf16(nn.Module):
    """A copy of ``module`` with weights and arithmetic in bf16, between float32 images and logits."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).to(torch.bfloat16)

    def forward(self, images: Tensor) -> Tensor:
        return self.module(images.to(torch.bfloat16)).float()


def write_variant(
    engine: str,
    classifier: Classifier,
    precision: Precision,
    target: Path,
    calibration: Calibration | None,
    device: Device,
) -> str:
    """Compile the classifier in ``precision``, write it to ``target`` and return a note on its int8 layers.

    Raises:
        Unsupported: it cannot be had here; says why.
        NotWritable: the file cannot be written.
    """
    require_device(device)
    module = evaluation_module(classifier)
    prepare = None
    if precision.name == "bf16":
        require_bf16(device)
        module = InBf16(module)
    elif precision.name.startswith("int8"):
        if device != "cpu":
            raise Unsupported(f"{engine} {precision} is made of kernels for x86 processors; use bf16 on a GPU")
        require_torchao()
        require_int8_dot_product()
        images = calibration if precision.is_calibrated else None

        def prepare(module: nn.Module, example: Tensor) -> tuple[nn.Module, str]:
            return quantized_program(module, example, images)

    if device != "cpu":
        module = copy.deepcopy(module).to(device)
    return write_package(module, target, engine, classifier, precision, device, prepare)
