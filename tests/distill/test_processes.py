"""Two processes train as one does, and a process that dies ends the run in a sentence that can be resumed."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vitlet.distill.processes import Processes, all_processes
from vitlet.errors import Unsupported

RUN = str(Path(__file__).with_name("killable_run.py"))
STILL = "0"  # no stochastic depth: each process draws its own, so that alone differs between one and two
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", RUN]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def state_in(folder: Path) -> dict:
    return torch.load(folder / "training.pt", weights_only=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("one")
    subprocess.run([sys.executable, RUN, str(folder), STILL], check=True, capture_output=True, env=ENVIRONMENT)
    return folder


def compare(folder: Path, whole: Path) -> None:
    """The same loss curve, weights and stored decisions, but for the order in which sums are rounded."""
    found, expected = state_in(folder), state_in(whole)
    losses = [[epoch["loss"] for epoch in state["epochs"]] for state in (found, expected)]
    assert losses[0] == pytest.approx(losses[1], abs=2e-6)
    for part in ("module", "average"):
        for name, value in expected[part].items():
            torch.testing.assert_close(found[part][name], value, rtol=0, atol=2e-4, msg=name)
    names = [sorted(path.name for path in (run / "decisions").iterdir()) for run in (folder, whole)]
    assert names[0] == names[1] == [f"epoch-{number:05d}.safetensors" for number in range(4)]
    for name in names[0]:
        assert (folder / "decisions" / name).read_bytes() == (whole / "decisions" / name).read_bytes()


def test_two_processes_give_the_same_loss_curve_as_one(tmp_path, whole):
    subprocess.run([*LAUNCH, str(tmp_path), STILL], check=True, capture_output=True, env=ENVIRONMENT)
    compare(tmp_path, whole)


def test_two_processes_that_share_the_weights_give_the_same_loss_curve(tmp_path, whole):
    """FSDP. (It keeps no moving average.)"""
    subprocess.run([*LAUNCH, str(tmp_path), STILL, "shard"], check=True, capture_output=True, env=ENVIRONMENT)
    found, expected = state_in(tmp_path), state_in(whole)
    losses = [[epoch["loss"] for epoch in state["epochs"]] for state in (found, expected)]
    assert losses[0] == pytest.approx(losses[1], abs=2e-6)
    for name, value in expected["module"].items():
        torch.testing.assert_close(found["module"][name], value, rtol=0, atol=2e-4, msg=name)


def test_running_statistics_are_the_same_in_all_processes(tmp_path):
    """Each process normalises its own images, so without care each would end with another network."""
    done = subprocess.run(
        [*LAUNCH, str(tmp_path), STILL, "resnet"], check=True, capture_output=True, text=True, env=ENVIRONMENT
    )
    ends = dict(re.findall(r"rank (\d) ends with (\w+)", done.stdout))
    assert set(ends) == {"0", "1"}
    assert ends["0"] == ends["1"]


def test_a_killed_process_ends_the_run_and_it_resumes(tmp_path, whole):
    command = [*LAUNCH, str(tmp_path), STILL]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as launcher:
        assert launcher.stdout is not None
        for line in launcher.stdout:
            if line.startswith("epoch 3 of 6, "):
                os.kill(process_of_rank(launcher.pid, 1), signal.SIGKILL)
                break
        _, errors = launcher.communicate(timeout=600)
    assert launcher.returncode == 1
    assert re.search(r"the last finished epoch is in .*training\.pt: run the same with --resume", errors), errors[
        -3000:
    ]
    assert 2 <= len(state_in(tmp_path)["epochs"]) < 6
    assert not list(tmp_path.rglob("*.partial"))
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    compare(tmp_path, whole)


def process_of_rank(launcher: int, rank: int) -> int:
    """The child of torchrun that is this rank, by its environment."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"\0RANK={rank}\0".encode() in Path(f"/proc/{child}/environ").read_bytes():
            return int(child)
    raise AssertionError(f"torchrun has no process of rank {rank}")


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Unsupported, match="there is no CUDA device here"), all_processes("cuda"):
        pass
    with all_processes("auto") as processes:
        assert (processes.rank, processes.world, processes.device.type, processes.is_main) == (0, 1, "cpu", True)


@pytest.mark.parametrize(
    ("instructions", "found"), [({"avx512_bf16": True}, True), ({"bf16": True}, True), ({"avx2": True}, False)]
)
def test_bfloat16_where_the_processor_has_it(instructions, found, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    alone = Processes(0, 1, torch.device("cpu"))
    assert alone.bfloat16("auto") is found
    assert alone.bfloat16(True) is True
    assert alone.bfloat16(False) is False


def test_no_bfloat16_where_pytorch_does_not_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert Processes(0, 1, torch.device("cpu")).bfloat16("auto") is False
