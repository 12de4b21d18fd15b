"""Each runtime as its own documentation says to use it, for timm's model: what vitlet's exports are held against.

These are engines for vitlet's measuring process, so that both sides are timed by the same loop, in turn, in
fresh processes. Only the benchmark registers them. They take the short way that a reader of the documentation
would take: a fixed batch of one image, default options unless the page says otherwise.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np

from vitlet.errors import Unsupported
from vitlet.records import Artifact, Availability, Classifier, Precision


def timm_model(classifier: Classifier):
    """The model as timm gives it (random weights), which is what the documented paths start from."""
    import timm

    return timm.create_model(classifier.reference.removeprefix("timm:"), pretrained=False).eval()


class Documented:
    """What all of them share: an artifact is one file, a session is a function."""

    name = ""
    ending = ""
    names: tuple[str, ...] = ()

    def available(self):
        return Availability(True)

    def precisions(self):
        return tuple(Precision(name) for name in self.names)

    def export(self, classifier, precision, path: Path, *, calibration=None, device="cpu"):
        import torch

        target = path.with_name(path.name + self.ending)
        with torch.no_grad():
            self.write(timm_model(classifier), precision.name, target, calibration)
        a = classifier.architecture
        size = sum(file.stat().st_size for file in target.parent.glob(target.stem + ".*"))
        return Artifact(self.name, precision, target, size, a.image_height, a.image_width, a.classes)

    def open(self, artifact, *, threads):
        return Session(self.load(artifact, threads))

    def explain(self, artifact, *, threads, images):
        raise Unsupported("only the speed of the documented paths is of interest")

    def warm_imports(self):
        pass


class Session:
    def __init__(self, run):
        self._run = run

    def run(self, images: np.ndarray) -> np.ndarray:
        return np.array(self._run(images), dtype=np.float32)

    def close(self):
        self._run = None


def example():
    import torch

    return torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))


class TorchLike(Documented):
    """What runs as a PyTorch module."""

    def run_module(self, module, threads):
        import torch

        torch.set_num_threads(threads)

        def run(images):
            with torch.inference_mode():
                return module(torch.from_numpy(images)).float().numpy()

        return run

    def warm_imports(self):
        import timm  # noqa: F401


class Torch(TorchLike):
    """timm.create_model and inference mode; bf16 by casting model and images. The file is the fp32 state."""

    name, ending, names = "documented-torch", ".safetensors", ("fp32", "bf16")

    def write(self, model, precision, target, calibration):
        from safetensors.torch import save_file

        save_file(copy.deepcopy(model.state_dict()), target)
        target.with_name(target.name + ".name").write_text(model.default_cfg["architecture"])

    def restored(self, artifact):
        import timm
        from safetensors.torch import load_file

        name = artifact.path.with_name(artifact.path.name + ".name").read_text()
        model = timm.create_model(name, pretrained=False).eval()
        model.load_state_dict(load_file(artifact.path))
        return model

    def load(self, artifact, threads):
        import torch

        model = self.restored(artifact)
        if artifact.precision.name == "fp32":
            return self.run_module(model, threads)
        model = model.to(torch.bfloat16)
        return self.run_module(lambda images: model(images.to(torch.bfloat16)), threads)


class TorchScript(TorchLike):
    """torch.jit.script; quantize_dynamic of the linears with the x86 kernels (PyTorch's own default here)."""

    name, ending, names = "documented-torchscript", ".pt", ("fp32", "int8-dynamic-x86")

    def precisions(self):
        return (Precision("fp32"), Precision("int8-dynamic", "x86"))

    def write(self, model, precision, target, calibration):
        import torch

        if precision == "int8-dynamic":
            model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
        torch.jit.script(model).save(str(target))

    def load(self, artifact, threads):
        import torch

        return self.run_module(torch.jit.load(str(artifact.path)), threads)


class Mobile(TorchScript):
    """optimize_for_mobile of the scripted model."""

    name, ending, names = "documented-mobile", ".pt", ("fp32",)

    def precisions(self):
        return (Precision("fp32"),)

    def write(self, model, precision, target, calibration):
        import torch
        from torch.utils.mobile_optimizer import optimize_for_mobile

        optimize_for_mobile(torch.jit.script(model)).save(str(target))


class Lite(Mobile):
    """The same for the lite interpreter."""

    name, ending = "documented-lite", ".ptl"

    def write(self, model, precision, target, calibration):
        import torch
        from torch.utils.mobile_optimizer import optimize_for_mobile

        optimize_for_mobile(torch.jit.script(model))._save_for_lite_interpreter(str(target))

    def load(self, artifact, threads):
        from torch.jit.mobile import _load_for_lite_interpreter

        return self.run_module(_load_for_lite_interpreter(str(artifact.path)), threads)


class LiteRt(Documented):
    """litert_torch.convert, and ai-edge-quantizer's recipe for dynamic int8."""

    name, ending, names = "documented-litert", ".tflite", ("fp32", "int8-dynamic")

    def write(self, model, precision, target, calibration):
        import litert_torch
        from ai_edge_quantizer import quantizer, recipe

        litert_torch.convert(model, (example(),)).export(str(target))
        if precision == "int8-dynamic":
            content = quantizer.Quantizer(str(target), recipe.dynamic_wi8_afp32()).quantize().quantized_model
            target.write_bytes(content)

    def load(self, artifact, threads):
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(str(artifact.path), num_threads=threads).get_signature_runner()
        name = next(iter(runner.get_input_details()))
        return lambda images: next(iter(runner(**{name: images}).values()))

    def warm_imports(self):
        from ai_edge_litert import interpreter  # noqa: F401


class OnnxRuntime(Documented):
    """torch.onnx.export, then onnxruntime.quantization with its defaults (dynamic: per channel)."""

    name, ending, names = "documented-onnxruntime", ".onnx", ("fp32", "int8-dynamic", "int8-static")

    def write(self, model, precision, target, calibration):
        import torch
        from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        whole = target if precision == "fp32" else target.with_suffix(".whole.onnx")
        if precision == "int8-dynamic":
            # quantize_dynamic refuses what the newer exporter writes (ONNX Runtime 1.31: "Inferred shape and existing
            # shape differ"), so its reader takes the older one.
            torch.onnx.export(model, (example(),), str(whole), dynamo=False)
        else:
            torch.onnx.export(model, (example(),), dynamo=True).save(str(whole))
        if precision == "fp32":
            return
        prepared = target.with_suffix(".prepared.onnx")
        quant_pre_process(str(whole), str(prepared), skip_symbolic_shape=True)
        if precision == "int8-dynamic":
            quantize_dynamic(str(prepared), str(target), per_channel=True)
        else:

            class Reader(CalibrationDataReader):
                def __init__(self):
                    import onnxruntime

                    name = onnxruntime.InferenceSession(str(prepared)).get_inputs()[0].name
                    self.images = iter([{name: image} for _, image in zip(range(16), calibration, strict=False)])

                def get_next(self):
                    return next(self.images, None)

            quantize_static(str(prepared), str(target), Reader())
        for file in (whole, prepared):
            file.unlink()
            Path(f"{file}.data").unlink(missing_ok=True)

    def load(self, artifact, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(artifact.path), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda images: session.run(None, {name: images})[0]

    def warm_imports(self):
        import onnxruntime  # noqa: F401


class OpenVino(Documented):
    """openvino.convert_model; nncf.quantize with the transformer model type; precision by hint."""

    name, ending = "documented-openvino", ".xml"
    names = ("fp32", "bf16", "int8-static", "int8-static-bf16")

    def write(self, model, precision, target, calibration):
        import nncf
        import openvino

        converted = openvino.convert_model(model, example_input=example(), input=[1, 3, 224, 224])
        if precision.startswith("int8"):
            images = nncf.Dataset([image for _, image in zip(range(32), calibration, strict=False)])
            converted = nncf.quantize(converted, images, model_type=nncf.ModelType.TRANSFORMER, subset_size=32)
        openvino.save_model(converted, target, compress_to_fp16=False)

    def load(self, artifact, threads):
        import openvino

        hint = "bf16" if artifact.precision.name.endswith("bf16") else "f32"
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint}
        compiled = openvino.Core().compile_model(artifact.path, "CPU", settings)
        return lambda images: compiled(images)[0]

    def warm_imports(self):
        import openvino  # noqa: F401


class ExecuTorch(Documented):
    """torch.export, XNNPACKQuantizer where it is int8, to_edge_transform_and_lower with the XNNPACK partitioner."""

    name, ending, names = "documented-executorch", ".pte", ("fp32", "int8-dynamic", "int8-static")

    def write(self, model, precision, target, calibration):
        import torch
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )
        from executorch.exir import to_edge_transform_and_lower
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        inputs = (example(),)
        if precision != "fp32":
            config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=precision == "int8-dynamic")
            prepared = prepare_pt2e(torch.export.export(model, inputs).module(), XNNPACKQuantizer().set_global(config))
            for _, image in zip(range(16), calibration, strict=False):
                prepared(torch.from_numpy(image))
            model = convert_pt2e(prepared)
        program = to_edge_transform_and_lower(torch.export.export(model, inputs), partitioner=[XnnpackPartitioner()])
        target.write_bytes(program.to_executorch().buffer)

    def load(self, artifact, threads):
        import executorch.kernels.quantized  # noqa: F401  (the kernels at the borders of int8)
        import torch
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        portable_lib._unsafe_reset_threadpool(threads)
        method = Runtime.get().load_program(artifact.path).load_method("forward")
        return lambda images: method.execute([torch.from_numpy(images)])[0].numpy()

    def warm_imports(self):
        import torch  # noqa: F401
        from executorch.runtime import Runtime  # noqa: F401


class Inductor(TorchLike):
    """AOTInductor for fp32; PT2 export quantization with X86InductorQuantizer for int8."""

    name, ending, names = "documented-inductor", ".pt2", ("fp32", "int8-static")

    def write(self, model, precision, target, calibration):
        import torch

        inputs = (example(),)
        exported = torch.export.export(model, inputs)
        if precision != "fp32":
            from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
            from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as xiq

            quantizer = xiq.X86InductorQuantizer()
            quantizer.set_global(xiq.get_default_x86_inductor_quantization_config())
            prepared = prepare_pt2e(exported.module(), quantizer)
            for _, image in zip(range(16), calibration, strict=False):
                prepared(torch.from_numpy(image))
            exported = torch.export.export(convert_pt2e(prepared), inputs)
        torch._inductor.aoti_compile_and_package(
            exported, package_path=str(target), inductor_configs={"freezing": True}
        )

    def load(self, artifact, threads):
        import torch

        return self.run_module(torch._inductor.aoti_load_package(str(artifact.path)), threads)


class TorchAo(Torch):
    """quantize_ and torch.compile, as torchao's README has it; the file is the fp32 state."""

    name, names = "documented-torchao", ("int8-dynamic",)

    def load(self, artifact, threads):
        import torch
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        model = self.restored(artifact)
        quantize_(model, Int8DynamicActivationInt8WeightConfig())
        return self.run_module(torch.compile(model, mode="max-autotune"), threads)
