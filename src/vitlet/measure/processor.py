"""What processor this is and which of its instruction sets matter to inference."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

#: Names as the Linux kernel writes them: the vector widths, and everything that multiplies int8,
#: bfloat16 or half precision faster.
INFERENCE_INSTRUCTIONS = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"),
    *("neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)

#: Those that multiply and add int8 in one step, without which int8 gains little.
INT8_DOT_PRODUCT = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")

#: macOS tells each instruction set as a number of its own (sysctl names).
_MACOS_INSTRUCTIONS = {
    "hw.optional.neon": "asimd",
    "hw.optional.arm.FEAT_FP16": "asimdhp",
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.arm.FEAT_SME": "sme",
    "hw.optional.avx2_0": "avx2",
    "hw.optional.fma": "fma",
    "hw.optional.avx512f": "avx512f",
    "hw.optional.avx512vnni": "avx512_vnni",
}

#: Arm's own part numbers (implementer 0x41, Main ID Register), which Linux shows instead of a name.
_ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd05": "Cortex-A55",
    "0xd08": "Cortex-A72",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0d": "Cortex-A77",
    "0xd41": "Cortex-A78",
    "0xd44": "Cortex-X1",
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
}


def processor_name(root: Path = Path("/")) -> str:
    """The processor as its maker calls it, else the best that the system knows.

    ``root`` is where ``/proc`` and ``/sys`` are.
    """
    known = _cpuinfo(root)
    name = known.get("model name") or _sysctl("machdep.cpu.brand_string") or _arm_name(known, root)
    return " ".join((name or platform.processor() or platform.machine() or "unknown").split())


def instruction_sets(root: Path = Path("/")) -> tuple[str, ...]:
    """Those of ``INFERENCE_INSTRUCTIONS`` that this processor has; empty where the system does not say."""
    known = _cpuinfo(root)
    flags = set(f"{known.get('flags', '')} {known.get('features', '')}".split())
    if platform.system() == "Darwin":
        flags |= {flag for name, flag in _MACOS_INSTRUCTIONS.items() if _sysctl(name) == "1"}
    return tuple(name for name in INFERENCE_INSTRUCTIONS if name in flags)


def _cpuinfo(root: Path) -> dict[str, str]:
    """The first processor's lines of ``/proc/cpuinfo``, keys in lower case."""
    try:
        text = (root / "proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip().lower(), value.strip())
    return found


def _arm_name(known: dict[str, str], root: Path) -> str:
    core = _ARM_PARTS.get(known.get("cpu part", "")) if known.get("cpu implementer") == "0x41" else None
    try:
        board = (root / "sys/firmware/devicetree/base/model").read_text(errors="replace").strip("\0 \n")
    except OSError:
        board = ""
    return ", ".join(part for part in (core, re.sub(r"\s+", " ", board)) if part)


def _sysctl(name: str) -> str:
    """One value of the macOS or BSD kernel; empty if there is none."""
    if platform.system() not in ("Darwin", "FreeBSD"):
        return ""
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
