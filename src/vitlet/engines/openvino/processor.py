"""What OpenVINO's int8 products need of this processor; a file is refused where they would not be what it says."""

from __future__ import annotations

import platform
from pathlib import Path

from vitlet.engines.onnxruntime.processor import clips_products, is_x86
from vitlet.errors import Unsupported
from vitlet.records import Precision

_HALF_RANGE_BITS, _FULL_RANGE_BITS = 7, 8


def weight_bits() -> int:
    """The bits that weights of int8 products may use here: 8, or 7 where sums of products would be clipped.

    On x86 the former takes VNNI. Seen without PyTorch, since an artifact is opened without it, and
    what was exported on a machine must open there.
    """
    return _HALF_RANGE_BITS if clips_products() else _FULL_RANGE_BITS


def require_weight_range(path: Path, bits: int) -> None:
    """Refuse weights of so many bits where sums of their int8 products would be clipped.

    Raises:
        Unsupported: they use the full range and this x86 processor has no VNNI.
    """
    if bits == _FULL_RANGE_BITS and clips_products():
        raise Unsupported(
            f"{path} was exported for a processor with VNNI and would answer wrongly without; export it again here"
        )


def require_dynamic_quantization(precision: Precision) -> None:
    """Refuse activations that are quantized as they come where OpenVINO would leave them in fp32.

    Raises:
        Unsupported: no x86 processor, or one without VNNI.
    """
    if not precision.name.endswith("dynamic"):
        return
    if not is_x86():
        raise Unsupported(
            f"{precision} of OpenVINO was tried on x86 only, and this processor is {platform.machine()}; "
            "use int8-static"
        )
    if clips_products():
        raise Unsupported(
            f"OpenVINO computes {precision} in fp32 on x86 processors without VNNI (avx512_vnni or avx_vnni), which "
            "this one has not or the system does not tell; use int8-static"
        )
