"""A run that was killed or stopped goes on from its last finished epoch and ends with the same weights."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import torch

RUN = str(Path(__file__).with_name("killable_run.py"))


def begin_and_stop(folder: Path, with_signal: signal.Signals) -> tuple[int, str]:
    """Start a run, signal it in its third epoch; returns its exit code and standard error."""
    command = [sys.executable, RUN, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 3 of 6, "):
                process.send_signal(with_signal)
                break
        _, errors = process.communicate(timeout=600)
    return process.returncode, errors


def state_in(folder: Path) -> dict:
    return torch.load(folder / "training.pt", weights_only=True)


def test_killed_and_resumed_ends_with_the_same_weights(tmp_path):
    code, _ = begin_and_stop(tmp_path / "killed", signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert 2 <= len(state_in(tmp_path / "killed")["epochs"]) < 6
    for name in ("killed", "whole"):
        subprocess.run([sys.executable, RUN, str(tmp_path / name)], check=True, capture_output=True)
    resumed, whole = state_in(tmp_path / "killed"), state_in(tmp_path / "whole")
    for part in ("module", "average"):
        assert resumed[part].keys() == whole[part].keys()
        for name, value in whole[part].items():
            assert torch.equal(resumed[part][name], value), name
    losses = [[epoch["loss"] for epoch in state["epochs"]] for state in (resumed, whole)]
    assert losses[0] == losses[1]


def test_stopped_by_the_user_says_how_to_go_on(tmp_path):
    code, errors = begin_and_stop(tmp_path, signal.SIGINT)
    assert code != 0
    assert re.search(r"KeyboardInterrupt: stopped in epoch [3-6] of 6; the last finished epoch is in", errors)
    assert "--resume" in errors
    assert sorted(p.name for p in tmp_path.iterdir()) == ["decisions", "training.pt"]
