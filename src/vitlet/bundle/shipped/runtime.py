"""Run the bundle's model file with its own runtime, without vitlet::

    from preprocess import load
    from runtime import open_model

    model = open_model()
    logits = model(load("photo.jpg"))  # float32 [1, 3, height, width] -> float32 [1, classes]

Needs numpy and the runtime that ``manifest.json`` names. The settings are those that the model was measured with.
**A TorchScript file is a program, and a ``.pt2`` holds native code: open only what you trust.**
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

Answer = Callable[[np.ndarray], np.ndarray]
"""images: float32 [batch, 3, height, width] -> logits: float32 [batch, classes]"""


class CannotRun(Exception):
    """The model cannot be run here; the text says why and what to do."""


def open_model(folder: Optional[Path] = None, threads: Optional[int] = None) -> Answer:
    """Load the model of the bundle in ``folder`` (where this file lies, if none is given), to run with ``threads``
    threads (those it was measured with, if this process has so many processors).

    Raises:
        CannotRun: the runtime is missing, or the model needs vitlet.
    """
    place = Path(__file__).parent if folder is None else folder
    manifest = json.loads((place / "manifest.json").read_bytes())
    return open_file(place, manifest, threads or usable_threads(manifest["recipe"]["threads"]))


def open_file(folder: Path, manifest: Mapping[str, Any], threads: int) -> Answer:
    """As ``open_model``, by a manifest that was read before."""
    model = manifest["model"]
    engine, packages = str(model["engine"]), manifest["environment"]["packages"]
    if engine not in OPENERS:
        raise CannotRun(
            f"a model of the engine {engine!r} runs in vitlet itself: install vitlet {manifest['vitlet_version']} "
            f"and run: vitlet verify {folder}"
        )
    opener, package = OPENERS[engine]
    try:
        return opener(folder / model["file"], model, threads)
    except ImportError as error:
        version = f"=={packages[package]}" if package in packages else ""
        raise CannotRun(
            f"the runtime of the engine {engine!r} cannot be imported ({error}); install it with: "
            f"pip install {package}{version}"
        ) from error
    except Exception as error:  # each runtime has its own family of exceptions
        raise CannotRun(f"the runtime of the engine {engine!r} cannot open {model['file']}: {_line(error)}") from error


def usable_threads(wanted: int) -> int:
    """``wanted``, or as many processors as this process may use if they are fewer."""
    have = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(int(wanted), have))


def _onnxruntime(path: Path, model: Mapping[str, Any], threads: int) -> Answer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
    )
    return lambda images: np.asarray(session.run(["logits"], {"images": images})[0], np.float32)


def _openvino(path: Path, model: Mapping[str, Any], threads: int) -> Answer:
    with _hidden("openvino_telemetry"):  # else the import alone sends a web request
        openvino = importlib.import_module("openvino")
    core = openvino.Core()
    read = core.read_model(str(path), str(path.with_suffix(".bin")))
    group = int(read.get_rt_info(["vitlet", "dynamic_group"]).astype(str))
    read.reshape([1, 3, model["height"], model["width"]])
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if model["precision"]["name"].endswith("bf16") else "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": group,
        "ENABLE_CPU_PINNING": False,
        "ENABLE_HYPER_THREADING": True,
    }
    request = core.compile_model(read, "CPU", settings).create_infer_request()

    def answer(image: np.ndarray) -> np.ndarray:
        request.set_input_tensor(openvino.Tensor(image, shared_memory=True))
        request.infer()
        return np.array(request.get_output_tensor().data, np.float32)

    return _one_by_one(answer)


def _litert(path: Path, model: Mapping[str, Any], threads: int) -> Answer:
    module = importlib.import_module("ai_edge_litert.interpreter")
    interpreter = module.Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    put, take = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def answer(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(put, image)
        interpreter.invoke()
        return np.array(interpreter.get_tensor(take), np.float32)

    return _one_by_one(answer)


def _executorch(path: Path, model: Mapping[str, Any], threads: int) -> Answer:
    torch = importlib.import_module("torch")
    library = importlib.import_module("executorch.extension.pybindings._portable_lib")
    torch.set_num_threads(threads)
    library._unsafe_reset_threadpool(threads)
    program = library._load_for_executorch(str(path), program_verification=library.Verification.InternalConsistency)

    def answer(image: np.ndarray) -> np.ndarray:
        return np.array(program.forward((torch.from_numpy(image),))[0].numpy(), np.float32)

    return _one_by_one(answer)


def _torchscript(path: Path, model: Mapping[str, Any], threads: int) -> Answer:
    torch = importlib.import_module("torch")
    kernels = model["precision"].get("kernels") or ""
    if kernels:  # read when the int8 weights are packed, which is while the file is loaded
        torch.backends.quantized.engine = kernels
    # QNNPACK and XNNPACK have a pool of their own, whose size is that of OpenMP's when it starts.
    torch.set_num_threads(threads)
    if model["engine"] == "lite":
        load = importlib.import_module("torch.jit.mobile")._load_for_lite_interpreter
    else:
        load = torch.jit.load
    module = load(str(path))
    if model["engine"] in ("mobile", "lite") or kernels == "qnnpack":
        torch.set_num_threads(1)
    return _of_torch(torch, module, model.get("device", "cpu"))


def _inductor(path: Path, model: Mapping[str, Any], threads: int) -> Answer:
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    package = importlib.import_module("torch._inductor").aoti_load_package(str(path))
    return _one_by_one(_of_torch(torch, package, model.get("device", "cpu")))


def _of_torch(torch: Any, forward: Callable[[Any], Any], device: str) -> Answer:
    def answer(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits = forward(torch.from_numpy(images).to(device))
            return np.array(logits.float().cpu().numpy(), np.float32)

    return answer


def _one_by_one(answer: Answer) -> Answer:
    """For what takes one image at a time."""
    return lambda images: np.concatenate([answer(images[at : at + 1]) for at in range(len(images))])


#: Engine -> what opens its files, and the package to install.
OPENERS: Mapping[str, tuple[Callable[[Path, Mapping[str, Any], int], Answer], str]] = {
    "onnxruntime": (_onnxruntime, "onnxruntime"),
    "openvino": (_openvino, "openvino"),
    "litert": (_litert, "ai-edge-litert"),
    "executorch": (_executorch, "executorch"),
    "torchscript": (_torchscript, "torch"),
    "mobile": (_torchscript, "torch"),
    "lite": (_torchscript, "torch"),
    "inductor": (_inductor, "torch"),
    "torchao": (_inductor, "torch"),
}


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Make importing this module fail as if it were not installed."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


def _line(error: BaseException) -> str:
    lines = [line.strip(" :.") for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
