"""Whether a device multiplies bfloat16 itself; where it does not, bfloat16 is emulated and slower than float32."""

from __future__ import annotations

import torch

#: PyTorch's names of the processors' instructions for it.
_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


def has_bfloat16(device: str) -> bool | None:
    """Whether "cpu" or "cuda" does; ``None`` where PyTorch does not tell (processors, before PyTorch 2.11)."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    tell = getattr(torch.cpu, "get_capabilities", None)
    if tell is None:
        return None
    known = tell()
    return any(known.get(name) for name in _INSTRUCTIONS)
