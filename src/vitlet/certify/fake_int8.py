"""int8 arithmetic simulated in float32, knowing no model: what rounding a tensor to 8 bits makes of it.

The scheme of the runtimes that vitlet exports to: weights symmetric and by output channel (-127 to 127), activations
asymmetric with one range for the tensor (0 to 255), which always holds zero exactly (Jacob et al., arXiv 1712.05877,
section 2.1). Products of such integers are exact in int32, so that rounding the factors is all there is to simulate.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LEVELS = 255
_MOST_WEIGHT = 127
_LEAST_SPAN = 1e-8


def rounded_weight(weight: Tensor) -> Tensor:
    """weight: float32 [outputs, ...] -> the same shape, each output channel rounded to its own 255 levels."""
    scale = weight.flatten(1).abs().amax(dim=1).clamp(min=1e-12) / _MOST_WEIGHT
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -_MOST_WEIGHT, _MOST_WEIGHT)


def rounded_activation(values: Tensor, low: float, high: float) -> Tensor:
    """values: float32 [...] -> the same shape, rounded to 256 levels from ``low`` to ``high`` and cut off there; the
    range is widened so that 0 is one of the levels."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = max(high - low, _LEAST_SPAN) / _LEVELS
    zero = min(max(round(-low / step), 0), _LEVELS)
    return torch.fake_quantize_per_tensor_affine(values, step, zero, 0, _LEVELS)


def rounded_activation_by_image(values: Tensor) -> Tensor:
    """values: float32 [batch, ...] -> the same shape, each image rounded to 256 levels over its own range: what dynamic
    quantization does at batch 1."""
    flat = values.flatten(1)
    low, high = flat.amin(dim=1).clamp(max=0.0), flat.amax(dim=1).clamp(min=0.0)
    step = (high - low).clamp(min=_LEAST_SPAN) / _LEVELS
    zero = (-low / step).round().clamp(0, _LEVELS).to(torch.int32)
    return torch.fake_quantize_per_channel_affine(values, step, zero, 0, 0, _LEVELS)


def sqnr_db(signal: float, noise: float) -> float | None:
    """Signal-to-quantization-noise ratio in dB of two energies (sums of squares): 10 dB more is a tenth of the noise.
    ``None`` where it is no number: no noise, or no signal.
    """
    return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None
