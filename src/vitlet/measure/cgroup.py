"""What a container grants: the CPU time and memory limits of this process's control group.

Both versions of the interface are read (kernel documentation: admin-guide/cgroup-v2 and
cgroup-v1). A limit may stand on any parent group, so the whole way up to the root is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

#: cgroup v1 says "no limit" with the largest page-aligned number; nothing this large is a limit.
_UNLIMITED_BYTES = 1 << 60


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs' worth of time that the group may use (1.5 is one and a half), ``None`` if unlimited.

    ``root`` is where ``/proc`` and ``/sys`` are.
    """
    found = []
    for folder in _groups(root, "cpu"):
        words = _words(folder / "cpu.max", 2)
        if not words:
            words = _words(folder / "cpu.cfs_quota_us", 1) + _words(folder / "cpu.cfs_period_us", 1)
        # No limit is "max" in version 2 and -1 in version 1.
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]) > 0:
            found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes of memory that the group may hold, ``None`` if unlimited."""
    found = []
    for folder in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            words = _words(folder / name, 1)
            if words and words[0].isdigit() and int(words[0]) < _UNLIMITED_BYTES:
                found.append(int(words[0]))
    return min(found, default=None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the process's own group and of all its parents, v2 and v1."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers if controllers else root / "sys/fs/cgroup"
        folder = mount / path.lstrip("/")
        while folder != mount and mount in folder.parents:
            yield folder
            folder = folder.parent
        yield mount


def _words(path: Path, count: int) -> tuple[str, ...]:
    """The file's words, or none if it is missing or has another number of them."""
    try:
        words = tuple(path.read_text().split())
    except OSError:
        return ()
    return words if len(words) == count else ()
