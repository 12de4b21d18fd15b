"""What this processor can do, as PyTorch sees it: whether bf16 and int8 pay, and what compiled code needs."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import torch

from vitlet.errors import Unsupported
from vitlet.models.bfloat16 import has_bfloat16
from vitlet.records import Device

#: PyTorch's names of what a compiler told "for this machine" makes use of by itself.
_COMPILED_FOR = (
    *("avx", "avx2", "fma3", "f16c", "bmi", "bmi2", "popcnt", "lzcnt", "avx_vnni", "avx_vnni_int8", "avx_ne_convert"),
    *("avx512_f", "avx512_cd", "avx512_dq", "avx512_bw", "avx512_vl", "avx512_ifma", "avx512_vbmi", "avx512_vbmi2"),
    *("avx512_bitalg", "avx512_vpopcntdq", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8"),
    *("amx_bf16", "fp16_arith", "bf16", "i8mm", "dot", "sve", "sve2", "sve_bf16", "sve_max_length"),
)
_INT8_DOT_PRODUCT = ("avx512_vnni", "avx_vnni", "amx_int8")


def compiled_for() -> tuple[str, ...]:
    """The instruction sets of this processor that native code made here may use, sorted.

    Raises:
        Unsupported: PyTorch does not tell.
    """
    known = _capabilities()
    found = (f"{name}={known[name]}" if name == "sve_max_length" else name for name in _COMPILED_FOR if known.get(name))
    return tuple(sorted(found))


def platform_name() -> str:
    """System and machine that native code is for: "linux-x86_64"."""
    return f"{platform.system().lower()}-{platform.machine().lower()}"


def compute_capability() -> str:
    """What the GPU in use can do, by NVIDIA's numbering: "9.0"."""
    return ".".join(map(str, torch.cuda.get_device_capability()))


def require_bf16(device: Device) -> None:
    """Refuse bf16 where it would be emulated, and so slower than fp32.

    Raises:
        Unsupported: the processor has no instructions for it, or PyTorch does not tell.
    """
    if device == "cpu" and not has_bfloat16(device):
        _capabilities()  # says so if PyTorch does not tell
        raise Unsupported("this processor has no bf16 instructions, so bf16 would be slower than fp32; use fp32")


def require_int8_dot_product() -> None:
    """Refuse int8 where products of unsigned and signed bytes saturate in 16 bits.

    Raises:
        Unsupported: no x86 processor, one without VNNI, or PyTorch does not tell.
    """
    if not any(_capabilities().get(name) for name in _INT8_DOT_PRODUCT):
        raise Unsupported(
            "these int8 kernels need an x86 processor with VNNI (avx512_vnni, avx_vnni or amx_int8), which this one "
            "has not; use fp32, or the int8-dynamic of the torchscript engine"
        )


def require_device(device: Device) -> None:
    """Refuse a GPU that is not there.

    Raises:
        Unsupported: PyTorch finds no CUDA device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise Unsupported(
            f"PyTorch {torch.__version__} finds no CUDA device here; install a CUDA build of PyTorch on a machine "
            "with an NVIDIA GPU, or use the device cpu"
        )


def _capabilities() -> Mapping[str, Any]:
    tell = getattr(torch.cpu, "get_capabilities", None)
    if tell is None:
        raise Unsupported(
            f"PyTorch {torch.__version__} does not tell which instructions this processor has; "
            "upgrade PyTorch to 2.11 or newer"
        )
    known: Mapping[str, Any] = tell()
    return known
