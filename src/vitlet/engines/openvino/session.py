"""Opening and running OpenVINO's files on the CPU; imports no PyTorch."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from vitlet.engines.inputs import checked_images, checked_threads
from vitlet.engines.openvino.file import INPUT, OUTPUT, WEIGHTS, check_files
from vitlet.engines.openvino.processor import require_dynamic_quantization, require_weight_range
from vitlet.engines.openvino.quiet import installed, last_line, openvino
from vitlet.errors import InvalidValue, ModelUnreadable, Unsupported
from vitlet.records import Artifact, Precision

_DEVICE = "CPU"


class OpenVinoSession:
    """A model compiled for one image and, when first needed, once more for any other number.

    Compiled for exactly one image DeiT-S is 1 (bf16) to 5 % (int8, with bf16 between) faster than
    with an open batch; for eight images there is no difference. Not shared between threads.
    """

    def __init__(self, artifact: Artifact, model: Any, settings: dict[str, Any]) -> None:
        self._artifact = artifact
        self._model = model
        self._settings = settings
        self._requests: dict[bool, Any] = {}
        self._request(one_image=True)

    def run(self, images: np.ndarray) -> np.ndarray:
        """images: float32 [batch, 3, height, width] -> logits: float32 [batch, classes], a
        C-contiguous array that shares memory with nothing.

        Raises:
            InvalidValue: wrong shape or dtype, or the session was closed.
            ModelUnreadable: OpenVINO fails on it, for want of memory for so many images, say.
        """
        if self._model is None:
            raise InvalidValue(f"the session of {self._artifact.path} was closed; open the artifact again")
        ready = checked_images(images, height=self._artifact.height, width=self._artifact.width)
        try:
            return answer(self._request(one_image=len(ready) == 1), ready)
        except RuntimeError as error:
            raise ModelUnreadable(
                f"{self._artifact.path} fails on {len(ready)} images ({last_line(error)}); "
                "try fewer at a time, or export it again"
            ) from error

    def close(self) -> None:
        """Give the model's memory back; ``run`` refuses from now on."""
        self._model = None
        self._requests.clear()

    def _request(self, *, one_image: bool) -> Any:
        if one_image not in self._requests:
            compiled = compile_model(self._model, self._artifact, self._settings, one_image=one_image)
            self._requests[one_image] = compiled.create_infer_request()
        return self._requests[one_image]


def open_session(artifact: Artifact, threads: int) -> OpenVinoSession:
    """Check both files, read and compile them.

    Raises:
        InvalidValue: threads out of range.
        ModelNotFound, ModelUnreadable: as ``check_files`` says, or OpenVINO cannot read them.
        Unsupported: OpenVINO is missing, or the processor lacks bf16 or what its int8 products need.
    """
    model, settings = read_model(artifact, threads)
    try:
        return OpenVinoSession(artifact, model, settings)
    except RuntimeError as error:
        raise ModelUnreadable(
            f"OpenVINO cannot compile {artifact.path} ({last_line(error)}); export it again"
        ) from error


def read_model(artifact: Artifact, threads: int) -> tuple[Any, dict[str, Any]]:
    """``openvino.Model`` of the artifact, and the settings to compile it with."""
    checked_threads(threads)
    found = installed("openvino")
    if not found.ok:
        raise Unsupported(found.reason)
    products = check_files(artifact)
    require_precision(artifact.precision)
    require_weight_range(artifact.path, products.weight_bits)
    path = artifact.path
    try:
        model = core().read_model(str(path), str(path.with_suffix(WEIGHTS)))
        shapes = [str(port.get_partial_shape()) for port in (model.input(INPUT), model.output(OUTPUT))]
    except RuntimeError as error:
        raise ModelUnreadable(f"OpenVINO cannot read {path} ({last_line(error)}); export it again") from error
    expected = [f"[?,3,{artifact.height},{artifact.width}]", f"[?,{artifact.classes}]"]
    if shapes != expected:
        raise ModelUnreadable(f"{path} computes {' to '.join(shapes)}, not {' to '.join(expected)}; export it again")
    return model, _settings(artifact.precision, threads, products.dynamic_group)


def _settings(precision: Precision, threads: int, dynamic_group: int) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        # OpenVINO takes bf16 by itself where it can; here that is its user's choice.
        "INFERENCE_PRECISION_HINT": "bf16" if precision.name.endswith("bf16") else "f32",
        # OpenVINO quantizes activations in groups of 32 wherever weights are small; so is this.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": dynamic_group,
        # Pinned, the threads of two sessions would share the first processors.
        "ENABLE_CPU_PINNING": False,
        # Else two threads on the two halves of one core become one.
        "ENABLE_HYPER_THREADING": True,
    }


def compile_model(
    model: Any, artifact: Artifact, settings: dict[str, Any], *, one_image: bool, profiled: bool = False
) -> Any:
    """``openvino.CompiledModel``; ``model`` stays as it is."""
    if one_image:
        model = model.clone()
        model.reshape([1, 3, artifact.height, artifact.width])
    return core().compile_model(model, _DEVICE, {**settings, "PERF_COUNT": profiled})


def answer(request: Any, images: np.ndarray) -> np.ndarray:
    """Run an ``openvino.InferRequest``; the logits are a copy."""
    request.set_input_tensor(openvino().Tensor(images, shared_memory=True))
    request.infer()
    return np.array(request.get_output_tensor().data, dtype=np.float32, order="C")


def in_fp32(model: Any) -> Any:
    """An ``openvino.InferRequest`` of ``model`` with OpenVINO's own settings, but for the arithmetic."""
    return core().compile_model(model, _DEVICE, {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()


def require_precision(precision: Precision) -> None:
    """Refuse bf16, and activations quantized as they come, where OpenVINO would compute in fp32.

    Raises:
        Unsupported: the processor has no bf16 or VNNI instructions.
    """
    require_dynamic_quantization(precision)
    if precision.name.endswith("bf16") and "BF16" not in core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"):
        raise Unsupported(
            "this processor has no bf16 instructions (AVX512-BF16, AMX, or Arm's), so OpenVINO would compute in "
            "fp32; use fp32 or int8-static"
        )


@cache
def core() -> Any:
    """The process's ``openvino.Core``: it loads the CPU plug-in once and keeps no model."""
    return openvino().Core()


def warm_openvino() -> None:
    """Load the runtime, its CPU plug-in and its reader of files."""
    runtime = openvino()
    core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    runtime.frontend.FrontEndManager().load_by_framework("ir")
