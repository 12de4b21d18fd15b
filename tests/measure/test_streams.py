"""Several sessions at once: together they do more than one, and each has its one thread."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest
import torch

from vitlet.engines.torch.threads import using_threads
from vitlet.errors import InvalidValue
from vitlet.measure.processes import run_job
from vitlet.measure.streams import streams_per_s


class Engine:
    """Sleeps, as a runtime does that lets go of the interpreter's lock."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.threads: list[int] = []
        self.closed = 0

    def open(self, artifact, *, threads):
        self.threads.append(threads)
        return self

    def run(self, images):
        time.sleep(0.005)
        if self.fails and threading.current_thread() is not threading.main_thread():
            raise InvalidValue("it broke")

    def close(self):
        self.closed += 1


def test_two_streams_do_twice_the_work_of_one():
    images = [np.zeros((1, 3, 8, 8), np.float32)] * 3
    runtime = Engine()
    one, two = streams_per_s(runtime, None, 1, images), streams_per_s(runtime, None, 2, images)
    assert runtime.threads == [1, 1, 1]
    assert runtime.closed == 3
    assert 100 < one <= 200
    assert 1.6 < two / one < 2.4


def test_a_stream_that_fails_ends_all_and_closes_them():
    runtime = Engine(fails=True)
    with pytest.raises(InvalidValue, match="it broke"):
        streams_per_s(runtime, None, 3, [np.zeros((1, 3, 8, 8), np.float32)])
    assert runtime.closed == 3


def test_the_measuring_process_measures_streams(sham, job):
    visit = run_job(job(sham(run_ms=4), timing=None, streams=2), silence_limit_s=60)
    assert 250 < visit.streams_images_per_s <= 500


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core")
def test_threads_that_want_another_number_wait_and_the_old_number_returns():
    before = torch.get_num_threads()
    seen: list[tuple[str, int]] = []
    inside = threading.Event()

    def other() -> None:
        inside.wait()
        with using_threads(2):
            seen.append(("other", torch.get_num_threads()))

    def alike() -> None:
        inside.wait()
        with using_threads(1):
            seen.append(("alike", torch.get_num_threads()))

    workers = [threading.Thread(target=work) for work in (other, alike)]
    for worker in workers:
        worker.start()
    with using_threads(1):
        inside.set()
        workers[1].join(10)
        time.sleep(0.05)
        assert seen == [("alike", 1)]
        assert torch.get_num_threads() == 1
    workers[0].join(10)
    assert seen == [("alike", 1), ("other", 2)]
    assert torch.get_num_threads() == before
