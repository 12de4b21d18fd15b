"""What becomes of a bundle when its writer is killed, interrupted, starved or locked out."""

from __future__ import annotations

import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vitlet.bundle.read import Bundle, read_bundle

WRITER = [sys.executable, str(Path(__file__).with_name("writer_process.py"))]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, forks and mounts are of Unix")


def run(*arguments: object, wrapper: tuple[str, ...] = ()) -> str:
    done = subprocess.run(
        [*wrapper, *WRITER, *map(str, arguments)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def beside(target: Path) -> list[str]:
    return sorted(entry.name for entry in target.parent.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "ship").mkdir()
    return tmp_path / "ship" / "model.vitlet"


@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_stopped_at_every_touch_of_the_disk(
    written: Bundle, target: Path, rewrite: Callable[..., Bundle], how: str
) -> None:
    rewrite(target, sentences=("old",))
    rounds = [line.split("\t") for line in run("crash", how, written.path, target).splitlines() if "\t" in line]
    assert len(rounds) > 25  # the writer was really stopped at many places
    states = [state for _, state, *_ in rounds]
    assert states[-1] == "new"
    assert "old" in states
    for number, state, *names in rounds:
        partial = [name for name in names if name.startswith(".")]
        if how == "interrupt":
            assert names == ["model.vitlet"], f"touch {number} left {partial}"
        elif state == "absent":  # killed between the two renames: the old bundle is beside it, for the next writer
            assert any(".replaced-" in name for name in partial), number
    assert states.count("absent") <= 3
    assert run("check", target, "overwrite") == "done"
    assert beside(target) == ["model.vitlet"]


def test_killed_between_the_renames_the_old_bundle_comes_back(target: Path, rewrite: Callable[..., Bundle]) -> None:
    old = rewrite(target, sentences=("old",))
    target.rename(target.with_name(".model.vitlet.replaced-0123456789abcdef"))
    assert "exists; give another --out" in run("check", target)
    assert read_bundle(target) == old
    assert beside(target) == ["model.vitlet"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_signals_at_random_moments_leave_no_half_bundle(written: Bundle, target: Path, number: signal.Signals) -> None:
    moments = random.Random(7)
    for _ in range(8):
        writer = subprocess.Popen(
            [*WRITER, "forever", str(written.path), str(target)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert writer.stdout is not None
        assert writer.stdout.read(1) == b"."
        time.sleep(moments.uniform(0, 0.05))
        writer.send_signal(number)
        _, errors = writer.communicate(timeout=600)
        if number is signal.SIGINT:
            assert writer.returncode == 0, errors
            assert [name for name in beside(target) if name != "model.vitlet"] == []
        if target.exists():
            read_bundle(target)
    run("write", written.path, target, "overwrite")
    assert beside(target) == ["model.vitlet"]


def test_living_writer_is_left_alone(written: Bundle, target: Path) -> None:
    """Two processes overwrite the same target: neither takes the other's folder for abandoned."""
    first, second = (
        subprocess.Popen([*WRITER, "forever", str(written.path), str(target)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    time.sleep(2)
    outcomes = []
    for writer in (first, second):
        writer.send_signal(signal.SIGINT)
        outcomes.append(writer.communicate(timeout=600)[0].lstrip("."))
    # The slower one may find the target taken; what it may not find is its own folder gone.
    for outcome in outcomes:
        assert outcome.strip() == "interrupted" or outcome.startswith("OutputExists"), outcome
    read_bundle(target)
    assert beside(target) == ["model.vitlet"]


def test_two_writers_of_a_new_target_one_wins(written: Bundle, target: Path) -> None:
    writers = [
        subprocess.Popen([*WRITER, "write", str(written.path), str(target)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outcomes = sorted(writer.communicate(timeout=600)[0].partition(":")[0].strip() for writer in writers)
    assert outcomes == ["OutputExists", "OutputExists", "done"]
    read_bundle(target)
    assert beside(target) == ["model.vitlet"]


# Starved and locked out. A private mount namespace needs no root where the kernel allows it, and goes with its process.


def in_namespace(script: str) -> str:
    """Run a shell script in a mount namespace of its own; skip where that is not permitted."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here")
    for flags in ("-m", "-rm"):
        probe = subprocess.run(
            ["unshare", flags, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
        )
        if probe.returncode == 0:
            done = subprocess.run(
                ["unshare", flags, "sh", "-ec", script], capture_output=True, text=True, timeout=600, check=False
            )
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()
    pytest.skip("this system gives no private mount namespace")
    raise AssertionError


def shell(*arguments: object) -> str:
    return shlex.join([*WRITER, *map(str, arguments)])


def test_disk_full(written: Bundle, target: Path) -> None:
    full = target.parent
    output = in_namespace(
        f"mount -t tmpfs -o size=200k tmpfs {full}; {shell('write', written.path, target)}; ls -A {full}; "
        # Not even room for the probe: said before the long job begins.
        f"head -c 200k /dev/zero > {full}/filler || true; {shell('check', target)}; ls -A {full}"
    )
    sentence = f"NotWritable: cannot write {target}: the disk is full; free some space or choose another --out"
    assert output.splitlines() == [sentence, sentence, "filler"]


def test_old_bundle_survives_a_full_disk(written: Bundle, target: Path) -> None:
    output = in_namespace(
        f"mount -t tmpfs -o size=500k tmpfs {target.parent}; {shell('write', written.path, target)}; "
        f"{shell('write', written.path, target, 'overwrite')}; ls -A {target.parent}; "
        f"cd {target}; sha256sum --quiet -c SHA256SUMS && echo intact"
    )
    assert output.splitlines() == [
        "done",
        f"NotWritable: cannot write {target}: the disk is full; free some space or choose another --out",
        "model.vitlet",
        "intact",
    ]


@pytest.mark.parametrize("mode", ["write", "check"])
def test_read_only_file_system(written: Bundle, target: Path, mode: str) -> None:
    arguments = (written.path, target) if mode == "write" else (target,)
    output = in_namespace(
        f"mount -t tmpfs tmpfs {target.parent}; mount -o remount,ro {target.parent}; {shell(mode, *arguments)}"
    )
    assert output == f"NotWritable: cannot write {target}: the file system is read-only; choose another --out"


@pytest.mark.parametrize("mode", ["write", "check"])
def test_mount_point_cannot_be_replaced(written: Bundle, target: Path, mode: str) -> None:
    target.mkdir()
    arguments = (written.path, target, "overwrite") if mode == "write" else (target, "overwrite")
    output = in_namespace(f"mount -t tmpfs tmpfs {target}; {shell(mode, *arguments)}; ls -A {target.parent} {target}")
    sentence, *listing = output.splitlines()
    assert sentence == (
        f"NotWritable: cannot write {target}: it is a mount point or in use; give a new folder inside it as --out"
    )
    assert [name for name in listing if name.startswith(".")] == []


def test_file_size_limit(written: Bundle, target: Path) -> None:
    limit = ("sh", "-c", 'ulimit -f 64; exec "$@"', "sh")
    output = run("write", written.path, target, wrapper=limit)
    assert output.startswith(f"NotWritable: cannot write {target}: the model file is larger than this file system or")
    assert beside(target) == []


@pytest.mark.parametrize("mode", ["write", "check"])
def test_no_permission(written: Bundle, target: Path, mode: str) -> None:
    arguments = (written.path, target) if mode == "write" else (target,)
    target.parent.chmod(0o555)
    output = run(mode, *arguments, wrapper=without_privilege())
    assert output == (
        f"NotWritable: cannot write {target}: there is no permission to write in {target.parent}; "
        "choose another --out or change its permissions"
    )


def test_folder_that_may_be_written_but_not_listed(written: Bundle, target: Path) -> None:
    target.parent.chmod(0o333)
    assert run("write", written.path, target, wrapper=without_privilege()) == "done"
    target.parent.chmod(0o755)
    assert beside(target) == ["model.vitlet"]


def without_privilege() -> tuple[str, ...]:
    """The command that keeps root from passing over file modes; nothing for an ordinary user."""
    import os

    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root passes over file modes, and there is no setpriv to prevent that")
    dropped = "-dac_override,-dac_read_search"
    return ("setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}")
