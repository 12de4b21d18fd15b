"""Opening checkpoints, to be run by PyTorch as they stand."""

from __future__ import annotations

import torch
from torch import Tensor

from vitlet.engines.inputs import checked_threads
from vitlet.engines.torch.processor import require_bf16, require_device
from vitlet.engines.torch.session import TorchSession
from vitlet.engines.torch.threads import using_threads
from vitlet.errors import ModelUnreadable
from vitlet.models.checkpoint import load_checkpoint
from vitlet.models.safetensors_file import WEIGHT_DTYPES, read_header
from vitlet.records import Artifact


def open_checkpoint(artifact: Artifact, threads: int) -> TorchSession:
    """Build the module of a ``.safetensors`` file on the artifact's device.

    Raises:
        InvalidValue: threads out of range.
        ModelNotFound: there is no such file, or the installed timm has no such model.
        ModelUnreadable: the file is damaged, not vitlet's, or not the one that was exported.
        Unsupported: bf16 without instructions for it, or no GPU.
    """
    checked_threads(threads)
    in_bf16 = artifact.precision.name == "bf16"
    stored = set(read_header(artifact.path).dtypes.values()) & WEIGHT_DTYPES
    require_device(artifact.device)
    if in_bf16:
        require_bf16(artifact.device)
    with using_threads(threads):
        loaded = load_checkpoint(artifact.path)
    found = loaded.architecture
    if (found.image_height, found.image_width, found.classes) != (artifact.height, artifact.width, artifact.classes):
        raise ModelUnreadable(
            f"{artifact.path} holds a model for {found.image_height}x{found.image_width} pixels and "
            f"{found.classes} classes, not {artifact.height}x{artifact.width} and {artifact.classes}; "
            "export it again"
        )
    if stored != {"BF16" if in_bf16 else "F32"}:
        raise ModelUnreadable(
            f"{artifact.path} holds weights of type {', '.join(sorted(stored))}, not those of {artifact.precision}; "
            "export it again"
        )
    if not in_bf16:
        return TorchSession(loaded.module.to(artifact.device), artifact, threads)
    module = loaded.module.to(artifact.device, torch.bfloat16)

    def forward(images: Tensor) -> Tensor:
        return module(images.to(torch.bfloat16))

    return TorchSession(forward, artifact, threads)
