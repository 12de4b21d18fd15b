"""The measuring process: ``python -m vitlet.measure.worker``, a ``Job`` in and a ``Visit`` out."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import perf_counter, perf_counter_ns

import numpy as np

from vitlet.engines import Engine, Session, engine
from vitlet.errors import MeasurementFailed, VitletError
from vitlet.measure.inputs import read_encoded, read_inputs, timed_images
from vitlet.measure.job import Asked, Job, Timing, Visit
from vitlet.measure.memory import peak_bytes, reset_peak
from vitlet.measure.streams import streams_per_s
from vitlet.measure.timing import throughput, time_end_to_end, time_runs, warm_up
from vitlet.processes.child import Channel, one_line, serve
from vitlet.records import Artifact, Execution

#: Seconds between two signs of life while logits are computed. Nothing is sent while timing: the
#: parent would wake up and take a core.
TICK_S = 0.2


def do(job: Job, channel: Channel) -> Visit:
    """Open the artifact, time it, and write its logits, as far as the job asks.

    Raises:
        VitletError: the engine cannot open or run it, or its answers are no logits.
    """
    pin(job.cpus)
    runtime = engine(job.artifact.engine)
    channel.tick("importing the runtime")
    runtime.warm_imports()
    images = timed_images(job.inputs, job.artifact.height, job.artifact.width)
    held = reset_peak()
    channel.tick("opening")
    begin = perf_counter_ns()
    session = runtime.open(job.artifact, threads=job.threads)
    opened = perf_counter_ns()
    try:
        logits = session.run(images[0])
        answered = perf_counter_ns()
        check_logits(logits, job.artifact)
        latency_ms, peak = _time(session, images, job.timing, channel)
        end_to_end_ms = _end_to_end(session, job, channel)
        per_s = _throughput(session, images, job.throughput_batch, channel)
        for asked in job.asked:
            _write_logits(session, job.artifact, asked, channel)
    finally:
        session.close()
    return Visit(
        load_ms=(opened - begin) / 1e6,
        first_ms=(answered - opened) / 1e6,
        latency_ms=latency_ms,
        end_to_end_ms=end_to_end_ms,
        peak_memory_bytes=None if peak is None or held is None else max(0, peak - held),
        throughput_images_per_s=per_s,
        streams_images_per_s=_streams(runtime, job, images, channel),
        execution=_execution(runtime, job, images, channel),
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
    channel.tick("warming up")
    warm_up(session.run, images, timing)
    channel.tick("timing")
    return time_runs(session.run, images, timing), peak_bytes()


def _end_to_end(session: Session, job: Job, channel: Channel) -> tuple[float, ...]:
    """Milliseconds from the bytes of an image file to logits; none where there are no files."""
    if job.timing is None or not job.inputs.encoded or job.inputs.spec is None:
        return ()
    channel.tick("decoding and timing")
    # Only its median is told, for which the fewest runs are enough.
    timing = replace(job.timing, enough_runs=job.timing.runs, seconds=0.0)
    return time_end_to_end(session.run, read_encoded(job.inputs), job.inputs.spec, timing)


def _throughput(session: Session, images: list[np.ndarray], batch: int | None, channel: Channel) -> float | None:
    """Images per second; ``None`` if not asked for, or if the artifact takes no batch of that size."""
    if batch is None:
        return None
    channel.tick(f"batches of {batch}")
    try:
        return throughput(session.run, images, batch)
    except VitletError:
        return None


def _streams(runtime: Engine, job: Job, images: list[np.ndarray], channel: Channel) -> float | None:
    """Images per second of several sessions at once; ``None`` if not asked for or not possible."""
    if job.streams is None:
        return None
    channel.tick(f"{job.streams} streams")
    try:
        return streams_per_s(runtime, job.artifact, job.streams, images)
    except Exception:  # of any runtime, in any thread: the other figures stand all the same
        return None


def _execution(runtime: Engine, job: Job, images: list[np.ndarray], channel: Channel) -> Execution | None:
    """What the runtime really did; ``None`` if not asked for. Where it does not tell, a note says why."""
    if not job.explain:
        return None
    channel.tick("explaining")
    try:
        return runtime.explain(job.artifact, threads=job.threads, images=images[0])
    except Exception as error:  # it reads what runtimes print for people, which changes with their versions
        return Execution((), "nothing is known", notes=(f"The runtime does not tell what it did ({one_line(error)}).",))


def _write_logits(session: Session, artifact: Artifact, asked: Asked, channel: Channel) -> None:
    """Run every input at batch 1 and write the logits as they come, so that memory stays bounded."""
    count, inputs = read_inputs(asked.inputs, artifact.height, artifact.width)
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, artifact.classes)}
    last = perf_counter()
    with asked.logits_path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for done, image in enumerate(inputs):
            if done == 0 or perf_counter() - last >= TICK_S:
                channel.tick("answering", done, count)
                last = perf_counter()
            logits = session.run(image)
            check_logits(logits, artifact)
            file.write(logits.astype("<f4").tobytes())
    channel.tick("answering", count, count)


if __name__ == "__main__":
    serve(Job, do)
