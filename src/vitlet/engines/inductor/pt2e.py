"""PyTorch 2 Export Quantization for x86: int8 products in a program that Inductor will compile."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vitlet.engines.artifacts import int8_note
from vitlet.errors import Unsupported

if TYPE_CHECKING:
    from vitlet.data.calibration import Calibration


def require_torchao() -> None:
    """Refuse to quantize without the package that does it.

    Raises:
        Unsupported: torchao is not installed.
    """
    if find_spec("torchao") is None:
        raise Unsupported("torchao, which quantizes, is not installed; install it with: pip install 'vitlet[torchao]'")


def quantized_program(module: nn.Module, example: Tensor, calibration: Calibration | None) -> tuple[nn.Module, str]:
    """Return ``module`` as a graph whose linears multiply int8 (weights with a scale for each output
    channel, activations uint8 with one scale and offset for each tensor), and a note.

    The images of ``calibration`` settle these scales, and those of convolutions, and are read one at a
    time; without, each activation of a linear is quantized by its own range as it comes.

    Raises:
        Unsupported: the model has no layer to quantize.
    """
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = x86.X86InductorQuantizer()
    if calibration is not None:
        quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    else:
        # Convolutions would be quantized, and then computed in fp32 all the same.
        linears: Any = nn.functional.linear
        quantizer.set_function_type_qconfig(linears, x86.get_default_x86_inductor_quantization_config(is_dynamic=True))
    graph = torch.export.export(module, (example,)).module()
    prepared = prepare_pt2e(graph, quantizer)
    if calibration is None:
        prepared(example)
    else:
        for image in calibration:
            prepared(torch.from_numpy(image))
    converted = convert_pt2e(prepared)
    int8_weights = sum(buffer.numel() for buffer in converted.buffers() if buffer.dtype == torch.int8)
    return converted, int8_note(int8_weights, module)
