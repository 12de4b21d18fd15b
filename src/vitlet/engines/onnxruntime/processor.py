"""Whether ONNX Runtime's uint8 x int8 kernels are exact on this processor.

On x86 without VNNI they add pairs of products in 16 bits and clip what does not fit
(``vpmaddubsw``): with 8-bit weights that can be any large sum, with 7-bit weights none. ONNX
Runtime's guide on quantization advises the same ("reduce_range"). Arm's kernels are exact.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path

_X86 = ("x86_64", "amd64", "i386", "i686")
_EXACT = {"avx512_vnni", "avx_vnni"}


def is_x86() -> bool:
    """Whether this is an Intel or AMD processor."""
    return platform.machine().lower() in _X86


def clips_products(root: Path = Path("/")) -> bool:
    """Whether sums of 8-bit products may be clipped here; where the system does not say, as on Windows, yes.

    ``root`` is where ``/proc`` is.
    """
    if not is_x86():
        return False
    try:
        known = (root / "proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return True
    flags = re.search(r"^flags\s*:(.*)$", known, re.MULTILINE)
    return flags is None or _EXACT.isdisjoint(flags.group(1).split())
