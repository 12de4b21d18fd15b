"""PyTorch 2 Export Quantization for x86: int8 products in a program that Inductor will compile."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitlet.errors import Unsupported


def require_torchao() -> None:
    """Refuse to quantize without the package that does it.

    Raises:
        Unsupported: torchao is not installed.
    """
    if find_spec("torchao") is None:
        raise Unsupported("torchao, which quantizes, is not installed; install it with: pip install vitlet[torchao]")


def quantized_program(module: nn.Module, example: Tensor, images: Iterable[np.ndarray]) -> nn.Module:
    """Return ``module`` as a graph whose linears multiply int8: weights with a scale for each output
    channel, activations uint8 with one scale and offset for each tensor.

    ``images`` (float32 [1, 3, height, width] each) settle these scales, and those of convolutions;
    with none of them, each activation of a linear is quantized by its own range as it comes.
    """
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    images = tuple(images)
    quantizer = x86.X86InductorQuantizer()
    if images:
        quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    else:
        # Convolutions would be quantized, and then computed in fp32 all the same.
        linears: Any = nn.functional.linear
        quantizer.set_function_type_qconfig(linears, x86.get_default_x86_inductor_quantization_config(is_dynamic=True))
    graph = torch.export.export(module, (example,)).module()
    prepared = prepare_pt2e(graph, quantizer)
    for image in images:
        prepared(torch.from_numpy(image))
    if not images:
        prepared(example)
    return convert_pt2e(prepared)
