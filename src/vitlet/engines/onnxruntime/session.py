"""A session over an ``.onnx`` file in ONNX Runtime's CPU execution provider."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from vitlet.engines.inputs import checked_images, checked_threads
from vitlet.engines.onnxruntime.file import check_file
from vitlet.engines.onnxruntime.processor import clips_products
from vitlet.errors import InvalidValue, ModelUnreadable, Unsupported
from vitlet.records import Artifact

_INT8_BITS = 8
#: Measured 7 times as slow as what it fuses (LayerNorm and the addition before it).
_DISABLED = ["SkipLayerNormFusion"]


class OnnxSession:
    """Runs an artifact with ``threads`` threads. Not shared between threads."""

    def __init__(self, inference: Any, artifact: Artifact) -> None:
        self._inference: Any = inference
        self._artifact = artifact

    def run(self, images: np.ndarray) -> np.ndarray:
        """images: float32 [batch, 3, height, width] -> logits: float32 [batch, classes], a
        C-contiguous array that shares memory with nothing.

        Raises:
            InvalidValue: wrong shape or dtype, or the session was closed.
            ModelUnreadable: ONNX Runtime fails on it: damaged weights, or no memory for so many images.
        """
        if self._inference is None:
            raise InvalidValue(f"the session of {self._artifact.path} was closed; open the artifact again")
        ready = checked_images(images, height=self._artifact.height, width=self._artifact.width)
        try:
            logits = self._inference.run(["logits"], {"images": ready})[0]
        except Exception as error:  # the runtime has its own family of exceptions
            raise ModelUnreadable(
                f"{self._artifact.path} fails on {len(ready)} images ({first_line(error)}); "
                "try fewer at a time, or export it again"
            ) from error
        return np.array(logits, dtype=np.float32, order="C")

    def close(self) -> None:
        """Give the model's memory back; ``run`` refuses from now on."""
        self._inference = None


def open_onnx(artifact: Artifact, threads: int) -> OnnxSession:
    """Check the file and load it.

    Raises:
        InvalidValue: threads out of range.
        ModelNotFound: there is no such file.
        ModelUnreadable: it is damaged, not vitlet's, or another artifact.
        Unsupported: its int8 products need an instruction that this processor lacks.
    """
    return OnnxSession(load(artifact, session_options(checked_threads(threads))), artifact)


def load(artifact: Artifact, options: Any) -> Any:
    """The ``onnxruntime.InferenceSession`` of an artifact, whose file is checked first."""
    import onnxruntime

    record = check_file(artifact)
    if record.get("weight_bits") == _INT8_BITS and clips_products():
        raise Unsupported(
            f"{artifact.path} was exported for a processor with VNNI and would answer wrongly without; "
            "export it on this machine"
        )
    try:
        return onnxruntime.InferenceSession(
            str(artifact.path), options, providers=["CPUExecutionProvider"], disabled_optimizers=_DISABLED
        )
    except Exception as error:  # the runtime has its own family of exceptions
        raise ModelUnreadable(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {artifact.path} ({first_line(error)}); export it again"
        ) from error


def session_options(threads: int) -> Any:
    """Options of a quiet session that computes with this many threads.

    Between two operators the threads wait by spinning, which saves some ten microseconds each time, but
    only while each has a processor of its own: with fewer, spinning threads keep the working one
    off. They stop when a run ends, for the sake of other sessions.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal only: failures come as exceptions
    spin = threads <= processors()
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Else weights lie in the arena, whose blocks grow by doubling.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    return options


def first_line(error: BaseException, most: int = 200) -> str:
    """The first line of the runtime's message, cut if long."""
    text = next((line.strip(" :.") for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text if len(text) <= most else text[: most - 3] + "..."


def processors() -> int:
    """How many this process may use; where the system does not say, as on macOS and Windows, all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
