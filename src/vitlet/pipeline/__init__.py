"""The flow, one readable function for each thing a user does. With ``records`` it is the public API.

Every function raises only ``vitlet.errors.VitletError``s, each of one sentence; ``progress`` is a
callback that is told how far a long job is. Nothing is written outside ``out``, but for what ``compress``
needs to go on after an interruption (beside ``out``), the folder ``looks`` that a caller names, and a temporary
folder that is removed at the end.
"""

from vitlet.pipeline.comparing import compare
from vitlet.pipeline.compressing import compress
from vitlet.pipeline.distilling import compress_student, distill
from vitlet.pipeline.evaluating import classify, evaluate
from vitlet.pipeline.inspecting import inspect
from vitlet.pipeline.loading import doctor, export, load
from vitlet.pipeline.measuring import bench
from vitlet.pipeline.verifying import verify

__all__ = [
    "bench",
    "classify",
    "compare",
    "compress",
    "compress_student",
    "distill",
    "doctor",
    "evaluate",
    "export",
    "inspect",
    "load",
    "verify",
]
