"""Threads inside a session, and memory over many sessions."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from vitlet.engines import engine, engines
from vitlet.engines.torch.session import TorchSession
from vitlet.engines.torch.threads import using_threads
from vitlet.errors import ModelUnreadable
from vitlet.records import Precision, to_json


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


def test_failure_inside_the_model_is_one_sentence(exported, distilled, images_for):
    def forward(images):
        return images @ torch.zeros(1000, 2)

    session = TorchSession(forward, exported(engine("torch"), Precision("fp32")), 1)
    with pytest.raises(ModelUnreadable, match=r"safetensors fails on 2 images \(.*; try fewer at a time, or") as caught:
        session.run(images_for(distilled, 2))
    assert "\n" not in str(caught.value)


CYCLES = """
from vitlet.engines import engine, engines
from vitlet.records import Artifact, from_json
import numpy as np

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

artifact = from_json(arguments[0], Artifact)
images = np.zeros((1, 3, artifact.height, artifact.width), np.float32)
held = []
for number in range(220):
    session = engine(artifact.engine).open(artifact, threads=1)
    session.run(images)
    session.close()
    if number in (19, 119, 219):
        held.append(resident_mib())
print(json.dumps(held))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", [name for name in engines() if name not in ("inductor", "onnxruntime", "openvino")])
def test_memory_does_not_grow_with_sessions(name, exported, fresh_process):
    """200 times open, run, close: a leak of the weights (1.4 MB in fp32, 0.4 in int8) would be 70 MB and more. (Those
    left out have such a test of their own.)"""
    found = engine(name)
    # The last precision goes the longest way: packed weights, where the runtime has any.
    artifact = exported(found, found.precisions()[-1])
    start, middle, end = fresh_process(CYCLES, artifact).answer
    assert end - start < 30, (start, middle, end)
    assert end - middle < 20, (start, middle, end)


PINNED = """
import json, os, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before torch is imported, as measuring does
import numpy as np
from vitlet.engines import engine, engines
from vitlet.records import Artifact, from_json

artifact = from_json(json.loads(sys.argv[1]), Artifact)
session = engine(artifact.engine).open(artifact, threads=1)
images = np.zeros((1, 3, artifact.height, artifact.width), np.float32)
session.run(images)
start = time.process_time()
for _ in range(10):
    session.run(images)
print((time.process_time() - start) * 100)
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors to be pinned to one of them")
def test_a_pinned_process_does_not_wait_for_threads_that_have_no_processor(exported):
    """QNNPACK's pool has a thread for each processor of the machine until it is told otherwise."""
    artifact = exported(engine("lite"), Precision("int8-dynamic", "qnnpack"))
    done = subprocess.run(
        [sys.executable, "-c", PINNED, json.dumps(to_json(artifact))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # Processor time, which a busy machine does not stretch: a fraction of a millisecond of work, against
    # tens of milliseconds of two threads spinning on one processor.
    assert float(done.stdout.splitlines()[-1]) < 20, done.stdout
