"""Throughput of several sessions at once, each with one thread: how a server would run a small model."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from time import perf_counter

import numpy as np

from vitlet.engines import Engine, Session
from vitlet.records import Artifact

#: Seconds that the streams run for once all are warm.
_SECONDS = 1.5


def streams_per_s(runtime: Engine, artifact: Artifact, streams: int, images: Sequence[np.ndarray]) -> float:
    """Images per second of ``streams`` sessions in as many Python threads, each at batch 1.

    A runtime that holds Python's global lock while it computes gains nothing from streams here.

    Raises:
        VitletError: a session cannot be opened or run.
    """
    sessions = [runtime.open(artifact, threads=1) for _ in range(streams)]
    try:
        for session in sessions:
            session.run(images[0])
        return _run_all(sessions, images)
    finally:
        for session in sessions:
            session.close()


def _run_all(sessions: Sequence[Session], images: Sequence[np.ndarray]) -> float:
    rates: list[float] = []
    errors: list[Exception] = []
    start = threading.Barrier(len(sessions))

    def work(session: Session, offset: int) -> None:
        try:
            session.run(images[offset % len(images)])  # what a runtime prepares for each thread
            start.wait()
            done, begin = 0, perf_counter()
            while (elapsed := perf_counter() - begin) < _SECONDS:
                session.run(images[(offset + done) % len(images)])
                done += 1
            rates.append(done / elapsed)
        except Exception as error:
            errors.append(error)
            start.abort()

    threads = [threading.Thread(target=work, args=(one, number)) for number, one in enumerate(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    causes = [error for error in errors if not isinstance(error, threading.BrokenBarrierError)]
    if causes:
        raise causes[0]
    return sum(rates)
