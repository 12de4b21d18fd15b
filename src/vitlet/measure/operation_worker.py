"""The profiling process: ``python -m vitlet.measure.operation_worker``, a ``ProfileJob`` in, ``OperationTimes`` out."""

from __future__ import annotations

from vitlet.engines.onnxruntime.node_times import profile_in_turns
from vitlet.measure.inputs import timed_images
from vitlet.measure.operation_times import OperationTime, OperationTimes, ProfileJob
from vitlet.measure.worker import pin
from vitlet.processes.child import Channel, serve


def do(job: ProfileJob, channel: Channel) -> OperationTimes:
    """Run both files in turns under ONNX Runtime's profiler and sum up the nodes of each operation, run by run.

    Raises:
        VitletError: a file cannot be opened, run or profiled.
    """
    pin(job.cpus)
    channel.tick("profiling")
    images = timed_images(job.inputs, job.fp32.height, job.fp32.width)
    fp32, int8 = profile_in_turns((job.fp32, job.int8), job.operations, job.threads, images, job.runs)
    # What one of the files has no node for (a product inside a fused operator) cannot be told.
    return OperationTimes(
        {name: OperationTime(fp32[name], int8[name]) for name in job.operations if name in fp32 and name in int8},
        f"ONNX Runtime's profiles of {job.runs} runs each of fp32 and {job.int8.precision}, {job.threads} threads",
    )


if __name__ == "__main__":
    serve(ProfileJob, do)
