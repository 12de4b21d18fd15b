"""How much memory this process holds, and the most it held since a given moment.

On Linux the kernel keeps the resident high-water mark (``VmHWM`` in ``/proc/self/status``) and
forgets it when "5" is written to ``/proc/self/clear_refs`` (man page proc(5)). ``ru_maxrss`` would
not do there: it is inherited over fork and exec, so a small worker started by a large parent shows
the parent's mark. Elsewhere ``ru_maxrss`` is all there is, and a peak is a lower bound.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def reset_peak() -> int | None:
    """Forget the high-water mark; return the bytes held now, ``None`` where no one can tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # no such file, or a sandbox that forbids it: the mark can only be read
        return peak_bytes()
    return _status("VmRSS")


def peak_bytes() -> int | None:
    """The most bytes held since ``reset_peak``, ``None`` where no one can tell."""
    return _status("VmHWM") or _maxrss()


def _status(name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _maxrss() -> int | None:
    try:
        import resource  # only on Unix
    except ImportError:
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
