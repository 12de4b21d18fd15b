"""Threads inside a session, and memory over many sessions."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from vitlet.engines import engine, engines
from vitlet.engines.threads import using_threads
from vitlet.engines.torch_session import TorchSession
from vitlet.errors import Unsupported
from vitlet.records import Precision


def test_forward_runs_with_the_sessions_threads_and_without_gradients(exported, distilled, images_for):
    artifact = exported(engine("torch"), Precision("fp32"))
    seen = []

    def forward(images):
        seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled()))
        return distilled.module(images)

    before = torch.get_num_threads()
    sessions = [TorchSession(forward, artifact, threads) for threads in (1, 3, before)]
    for session in sessions * 2:
        session.run(images_for(distilled, 1))
        assert torch.get_num_threads() == before
    assert seen == [(1, True), (3, True), (before, True)] * 2


def test_threads_are_put_back_after_a_failure():
    before = torch.get_num_threads()
    seen = []
    with pytest.raises(ZeroDivisionError), using_threads(before + 1):
        seen.append(torch.get_num_threads()) or 1 / 0
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_logits_are_a_plain_copy_whatever_the_model_returns(exported, images_for, distilled):
    """Half precision, a strided view, or the very tensor it keeps."""
    artifact = exported(engine("torch"), Precision("fp32"))
    kept = torch.arange(40.0).reshape(2, 20)
    for returned in (kept[:, ::2], kept[:, :10].half(), kept.T.reshape(2, 20)[:, :10]):
        logits = TorchSession(lambda _, returned=returned: returned, artifact, 1).run(images_for(distilled, 2))
        assert (logits.dtype, logits.shape, logits.flags.c_contiguous) == (np.float32, (2, 10), True)
        np.testing.assert_array_equal(logits, returned.float().numpy())
        logits[:] = -1
        assert returned.min() >= 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_sessions(exported, fresh_process):
    """50 times open, run, close; a leak of the weights would be 69 MB (int8) or 275 MB (fp32)."""
    code = """
from vitlet.engines import engine
from vitlet.records import Artifact, from_json
import numpy as np

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

def cycle(artifact, times):
    for _ in range(times):
        session = engine(artifact.engine).open(artifact, threads=1)
        session.run(images)
        session.close()

images = np.zeros((1, 3, 32, 32), np.float32)
grown = {}
for artifact in (from_json(a, Artifact) for a in arguments):
    cycle(artifact, 10)
    before = resident_mib()
    cycle(artifact, 50)
    grown[f"{artifact.engine} {artifact.precision.name}{artifact.precision.kernels}"] = resident_mib() - before
print(json.dumps(grown))
"""
    artifacts = []
    for found in engines().values():
        for precision in found.precisions():
            if precision.kernels != "onednn":
                try:
                    artifacts.append(exported(found, precision))
                except (pytest.skip.Exception, Unsupported):
                    continue
    grown = fresh_process(code, *artifacts).answer
    print(grown)
    assert max(grown.values()) < 20, grown
