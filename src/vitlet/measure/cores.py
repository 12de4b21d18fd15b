"""Which processor cores this process may use, and which of them to pin a measurement to."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from vitlet.errors import InvalidValue
from vitlet.measure.cgroup import cpu_quota

_CPUS = Path("sys/devices/system/cpu")


def available_cpus() -> tuple[int, ...]:
    """The logical CPUs that this process may run on, by number."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def available_cores(root: Path = Path("/")) -> int:
    """Logical CPUs that this process may use: its affinity, or less if its container grants less time."""
    return _within_quota(len(available_cpus()), root)


def default_threads(root: Path = Path("/")) -> int:
    """Physical cores that this process may use, at least 1.

    Two hyper-threads of one core share its multipliers, so a ViT gains nothing from the second.
    """
    cpus = available_cpus()
    cores = {_siblings(cpu, root) for cpu in cpus}
    return _within_quota(len(cores), root)


def choose_cpus(threads: int, root: Path = Path("/")) -> tuple[int, ...]:
    """The CPUs to pin ``threads`` threads to: one of each physical core first, the fastest cores
    first (big.LITTLE, performance and efficiency cores), then second hyper-threads.

    Raises:
        InvalidValue: this process has not that many CPUs; pinned threads would wait for each other.
    """
    cpus = available_cpus()
    if not 1 <= threads <= len(cpus):
        some = "1" if len(cpus) == 1 else f"1 to {len(cpus)}"
        raise InvalidValue(f"threads is {threads}; this process may use {some} here")
    rank: dict[frozenset[int], int] = {}
    order = []
    for cpu in cpus:
        core = _siblings(cpu, root)
        rank[core] = rank.get(core, -1) + 1
        order.append((rank[core], -_capacity(cpu, root), cpu))
    return tuple(sorted(cpu for _, _, cpu in sorted(order)[:threads]))


def _within_quota(cores: int, root: Path) -> int:
    quota = cpu_quota(root)
    # A thread more than the quota would be put to sleep in the middle of a run.
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def _siblings(cpu: int, root: Path) -> frozenset[int]:
    """The logical CPUs of the same physical core ("0-1,8" in the kernel's words)."""
    try:
        text = (root / _CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text()
    except OSError:
        return frozenset({cpu})
    members: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
        members.update(range(int(first), int(last or first) + 1))
    return frozenset(members) or frozenset({cpu})


def _capacity(cpu: int, root: Path) -> int:
    """How fast the kernel thinks that CPU is; 0 where it does not say."""
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        try:
            return int((root / _CPUS / f"cpu{cpu}" / name).read_text())
        except (OSError, ValueError):
            continue
    return 0
