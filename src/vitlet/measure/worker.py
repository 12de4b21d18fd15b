"""The measuring process: ``python -m vitlet.measure.worker``, started by ``processes`` alone.

It reads one ``Job`` as a line of JSON from standard input and answers with lines of JSON
(``job.Message``) on what was its standard output. Both are moved to private descriptors first, so
that a runtime that prints or reads cannot get between. When standard input ends, the parent is
gone, and so goes this process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import BinaryIO

import msgspec
import numpy as np

from vitlet.engines import Session, engine
from vitlet.errors import MeasurementFailed, Unsupported, VitletError
from vitlet.measure.inputs import read_inputs, timed_images
from vitlet.measure.job import Failure, Job, Message, Tick, Timing, Visit
from vitlet.measure.memory import peak_bytes, reset_peak
from vitlet.measure.timing import throughput, time_runs, warm_up
from vitlet.records import Artifact, from_json, to_json

#: Seconds between two signs of life while logits are computed. Nothing is sent while timing: the
#: parent would wake up and take a core.
TICK_S = 0.2


def main() -> None:
    """Do one job. Ends with exit code 0 also when the failure could be told."""
    source, answers = _private_channel()
    line = _read_line(source)
    if not line:  # the parent was gone before it had said anything
        return
    _end_with_parent(source)
    channel = Channel(answers)
    try:
        job = from_json(msgspec.json.decode(line), Job)
        channel.send(do(job, channel))
    except Unsupported as error:
        channel.send(Failure(error.reason, "unsupported"))
    except VitletError as error:
        channel.send(Failure(str(error)))
    except Exception as error:
        # Whatever a runtime raises; of its many lines the first says what happened.
        text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        channel.send(Failure(f"{type(error).__name__}: {text}" if text else type(error).__name__))


class Channel:
    """Where messages go, one line each: the word for its kind, then JSON."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def send(self, message: Message) -> None:
        word = type(message).__name__.lower().encode()
        self._stream.write(word + b" " + msgspec.json.encode(to_json(message)) + b"\n")
        self._stream.flush()


def do(job: Job, channel: Channel) -> Visit:
    """Open the artifact, time it, and write its logits, as far as the job asks.

    Raises:
        VitletError: the engine cannot open or run it, or its answers are no logits.
    """
    pin(job.cpus)
    runtime = engine(job.artifact.engine)
    channel.send(Tick("importing the runtime"))
    runtime.warm_imports()
    images = timed_images(job.inputs, job.artifact.height, job.artifact.width)
    held = reset_peak()
    channel.send(Tick("opening"))
    begin = perf_counter_ns()
    session = runtime.open(job.artifact, threads=job.threads)
    opened = perf_counter_ns()
    try:
        logits = session.run(images[0])
        answered = perf_counter_ns()
        check_logits(logits, job.artifact)
        latency_ms, peak = _time(session, images, job.timing, channel)
        per_s = _throughput(session, images, job.throughput_batch, channel)
        if job.logits_path is not None:
            _write_logits(session, job, channel)
    finally:
        session.close()
    return Visit(
        load_ms=(opened - begin) / 1e6,
        first_ms=(answered - opened) / 1e6,
        latency_ms=latency_ms,
        peak_memory_bytes=None if peak is None or held is None else max(0, peak - held),
        throughput_images_per_s=per_s,
    )


def pin(cpus: tuple[int, ...]) -> None:
    """Let every thread of this process run on these CPUs only, where the system can do that.

    Threads that a runtime starts later inherit it; those that an import has started by now do not,
    so they are told one by one.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    os.sched_setaffinity(0, cpus)
    for thread in Path("/proc/self/task").glob("*"):
        with suppress(ProcessLookupError):  # it may have ended meanwhile
            os.sched_setaffinity(int(thread.name), cpus)


def check_logits(logits: object, artifact: Artifact) -> None:
    """Refuse an answer to one image that is not float32 [1, classes] of finite numbers.

    Raises:
        MeasurementFailed: with what came back instead.
    """
    expected = (1, artifact.classes)
    if not isinstance(logits, np.ndarray) or logits.shape != expected or logits.dtype != np.float32:
        shape, kind = getattr(logits, "shape", ()), getattr(logits, "dtype", type(logits).__name__)
        raise MeasurementFailed(f"answered {kind} {list(shape)} instead of float32 {list(expected)}")
    broken = int(np.count_nonzero(~np.isfinite(logits)))
    if broken:
        raise MeasurementFailed(f"{broken} of {artifact.classes} logits are NaN or infinite")


def _time(
    session: Session, images: list[np.ndarray], timing: Timing | None, channel: Channel
) -> tuple[tuple[float, ...], int | None]:
    """Latencies in ms and the memory high-water mark, which batches must not raise."""
    if timing is None:
        return (), None
    channel.send(Tick("warming up"))
    warm_up(session.run, images, timing)
    channel.send(Tick("timing"))
    return time_runs(session.run, images, timing), peak_bytes()


def _throughput(session: Session, images: list[np.ndarray], batch: int | None, channel: Channel) -> float | None:
    """Images per second; ``None`` if not asked for, or if the artifact takes no batch of that size."""
    if batch is None:
        return None
    channel.send(Tick(f"batches of {batch}"))
    try:
        return throughput(session.run, images, batch)
    except VitletError:
        return None


def _write_logits(session: Session, job: Job, channel: Channel) -> None:
    """Run every input at batch 1 and write the logits as they come, so that memory stays bounded."""
    count, inputs = read_inputs(job.inputs, job.artifact.height, job.artifact.width)
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, job.artifact.classes)}
    last = perf_counter()
    with Path(job.logits_path or os.devnull).open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for done, image in enumerate(inputs):
            if done == 0 or perf_counter() - last >= TICK_S:
                channel.send(Tick("answering", done, count))
                last = perf_counter()
            logits = session.run(image)
            check_logits(logits, job.artifact)
            file.write(logits.astype("<f4").tobytes())
    channel.send(Tick("answering", count, count))


def _private_channel() -> tuple[int, BinaryIO]:
    """Take standard input and output away from everyone else: reads get nothing, prints go to
    standard error."""
    source, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, os.fdopen(answers, "wb")


def _read_line(source: int) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        some = os.read(source, 65536)
        if not some:
            return b""
        line += some
    return bytes(line)


def _end_with_parent(source: int) -> None:
    """Kill this process and what it started as soon as the parent is gone, however it ended."""
    leads_group = hasattr(os, "getpgrp") and os.getpgrp() == os.getpid()
    if sys.platform == "linux":
        import fcntl

        # The kernel itself kills the group when the pipe ends, even while a runtime that hangs holds
        # the interpreter's lock (fcntl(2), F_SETSIG; PR_SET_PDEATHSIG would spare the children).
        fcntl.fcntl(source, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(source, fcntl.F_SETOWN, -os.getpid() if leads_group else os.getpid())
        fcntl.fcntl(source, fcntl.F_SETFL, fcntl.fcntl(source, fcntl.F_GETFL) | os.O_ASYNC)

    def wait() -> None:
        while os.read(source, 65536):
            pass
        if leads_group:
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    main()
