"""What is found out about the machine: from this one, and from the files of others."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vitlet import __version__
from vitlet.errors import InvalidValue
from vitlet.measure import cores
from vitlet.measure.cgroup import cpu_quota, memory_limit
from vitlet.measure.cores import available_cores, choose_cpus, default_threads
from vitlet.measure.environment import environment
from vitlet.measure.memory import peak_bytes, reset_peak
from vitlet.measure.processor import INFERENCE_INSTRUCTIONS, instruction_sets, processor_name
from vitlet.records import Environment, from_json, to_json

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and /sys")


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_this_environment():
    here = environment(2)
    assert here.threads == 2
    assert here.architecture == platform.machine()
    assert 1 <= here.cores <= os.cpu_count()
    assert 2**28 < here.memory_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert here.python == platform.python_version()
    assert here.packages["vitlet"] == __version__
    assert here.packages["numpy"] == np.__version__
    assert {"torch", "torchvision", "timm", "pillow"} <= set(here.packages)
    assert "Linux" in here.system
    assert here.processor
    assert from_json(to_json(here), Environment) == here
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert set(here.instruction_sets) == flags & set(INFERENCE_INSTRUCTIONS)


def test_telling_the_environment_imports_no_runtime():
    code = (
        "import sys, vitlet.measure.run, vitlet.measure.worker, vitlet.measure.rows; "
        "from vitlet.measure.environment import environment; environment(1); "
        "print({'torch', 'timm', 'transformers', 'PIL'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


X86 = "processor : 0\nmodel name\t: AMD  EPYC 9R14\nflags\t\t: fpu avx2 fma avx512f avx512_vnni\n\nprocessor : 1\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"


def test_processors_of_others(tmp_path):
    x86 = write(tmp_path / "x86", {"proc/cpuinfo": X86})
    assert processor_name(x86) == "AMD EPYC 9R14"
    assert instruction_sets(x86) == ("avx2", "fma", "avx512f", "avx512_vnni")
    board = {"proc/cpuinfo": ARM, "sys/firmware/devicetree/base/model": "Raspberry Pi 5 Model B\0"}
    arm = write(tmp_path / "arm", board)
    assert processor_name(arm) == "Cortex-A76, Raspberry Pi 5 Model B"
    assert instruction_sets(arm) == ("asimd", "asimddp")
    assert processor_name(tmp_path / "none") in (platform.processor(), platform.machine())
    assert instruction_sets(tmp_path / "none") == ()


@pytest.mark.parametrize(
    ("files", "cpus", "memory"),
    [
        ({}, None, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None, None),
        (
            {
                "proc/self/cgroup": "0::/pod/box\n",
                "sys/fs/cgroup/pod/box/cpu.max": "400000 100000",
                "sys/fs/cgroup/pod/cpu.max": "200000 100000",
                "sys/fs/cgroup/pod/box/memory.max": "max",
                "sys/fs/cgroup/pod/memory.max": "1073741824",
            },
            2.0,
            2**30,
        ),
        (
            {
                "proc/self/cgroup": "5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n1:name=systemd:/docker/1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "536870912\n",
            },
            0.5,
            2**29,
        ),
    ],
)
def test_what_a_container_grants(tmp_path, files, cpus, memory):
    root = write(tmp_path, files)
    assert cpu_quota(root) == cpus
    assert memory_limit(root) == memory


def topology(siblings: list[str], capacity: list[int]) -> dict[str, str]:
    files = {"proc/self/cgroup": "0::/\n"}
    for cpu, (group, speed) in enumerate(zip(siblings, capacity, strict=True)):
        files[f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"] = f"{group}\n"
        files[f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity"] = f"{speed}\n"
    return files


def test_one_thread_for_each_physical_core(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "available_cpus", lambda: (0, 1, 2, 3))
    root = write(tmp_path, topology(["0-1", "0-1", "2,3", "2,3"], [0, 0, 0, 0]))
    assert default_threads(root) == 2
    assert available_cores(root) == 4
    assert choose_cpus(1, root) == (0,)
    assert choose_cpus(2, root) == (0, 2)
    assert choose_cpus(3, root) == (0, 1, 2)
    assert choose_cpus(4, root) == (0, 1, 2, 3)
    with pytest.raises(InvalidValue, match="threads is 5; this process may use 1 to 4 here"):
        choose_cpus(5, root)


def test_the_big_cores_come_first(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "available_cpus", lambda: (0, 1, 2, 3))
    root = write(tmp_path, topology(["0", "1", "2", "3"], [400, 400, 1024, 1024]))
    assert choose_cpus(2, root) == (2, 3)
    assert choose_cpus(3, root) == (0, 2, 3)


def test_a_containers_quota_bounds_the_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "available_cpus", lambda: (0, 1, 2, 3))
    files = topology(["0", "1", "2", "3"], [0] * 4)
    assert default_threads(write(tmp_path / "a", files)) == 4
    quota = {"sys/fs/cgroup/cpu.max": "250000 100000"}
    assert default_threads(write(tmp_path / "b", files | quota)) == 2
    assert available_cores(tmp_path / "b") == 2
    quota = {"sys/fs/cgroup/cpu.max": "20000 100000"}
    assert default_threads(write(tmp_path / "c", files | quota)) == 1


def test_where_the_system_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "available_cpus", lambda: (0, 1))
    assert default_threads(tmp_path) == 2
    assert choose_cpus(1, tmp_path) == (0,)
    monkeypatch.setattr(cores, "available_cpus", lambda: (0,))
    with pytest.raises(InvalidValue, match="threads is 2; this process may use 1 here"):
        choose_cpus(2, tmp_path)


def test_the_high_water_mark_is_forgotten_and_rises_again():
    held = np.ones(150 << 20, np.uint8)
    del held
    before = reset_peak()
    assert peak_bytes() - before < 10 << 20
    again = np.ones(100 << 20, np.uint8)
    del again
    assert 95 << 20 < peak_bytes() - before < 110 << 20


def test_why_the_high_water_mark_is_not_taken_from_getrusage():
    """A small process started by a large one shows the large one's mark there."""
    held = np.ones(200 << 20, np.uint8)
    code = "import resource; from vitlet.measure.memory import peak_bytes; print(peak_bytes(), "
    code += "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    peak, maxrss = map(int, subprocess.check_output([sys.executable, "-c", code]).split())
    assert peak < 100 << 20
    assert maxrss > held.nbytes
