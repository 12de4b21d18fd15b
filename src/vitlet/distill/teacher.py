"""The small convolutional teacher, on disk and in memory.

DeiT (2012.12877, section 5.2) found that a convolutional teacher serves a ViT better than a
transformer of the same accuracy: the student takes over its inductive bias.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from vitlet.errors import ModelNotFound, ModelUnreadable, NotWritable
from vitlet.whole_file import put_whole

#: Changes when the architecture below does; a teacher file says which one it holds.
SMALL_RESNET = "small-resnet-1"


@dataclass(frozen=True)
class Teacher:
    """A trained teacher: images float32 [batch, 3, height, width], normalised like the student's ->
    logits [batch, classes]. In eval mode."""

    module: nn.Module
    labels: tuple[str, ...]

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.module.parameters())


def small_resnet(classes: int, *, seed: int = 0) -> nn.Module:
    """timm's ResNet (1512.03385) with four single-block stages of 32, 64, 128 and 128 channels, and
    for small images the usual change: a 3x3 stem of stride 1 and no max-pooling.

    0.62 million parameters for 10 classes. The caller's random state is left as it was.
    """
    from timm.models.resnet import BasicBlock, ResNet

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        block: Any = BasicBlock  # timm annotates the instance where it wants the class
        model: Any = ResNet(
            block,
            layers=(1, 1, 1, 1),
            channels=(32, 64, 128, 128),
            num_classes=classes,
            stem_type="deep",
            stem_width=16,
        )
        # A deep stem is a chain of three convolutions of which the first has stride 2.
        model.conv1[0].stride = (1, 1)
        model.maxpool = nn.Identity()
    module: nn.Module = model.to(memory_format=torch.channels_last)  # the faster layout for bfloat16 on CPUs
    return module.eval()


def save_teacher(teacher: Teacher, path: Path) -> None:
    """Write a small ResNet as safetensors, whole or not at all.

    Raises:
        NotWritable: it cannot be written.
    """
    tensors = {name: value.contiguous() for name, value in teacher.module.state_dict().items()}
    data = save(tensors, metadata={"vitlet_teacher": SMALL_RESNET, "labels": json.dumps(teacher.labels)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put_whole(path, data)
    except OSError as error:
        raise NotWritable(f"the teacher cannot be written to {path} ({error.strerror})") from error


def load_teacher(path: Path) -> Teacher:
    """Read what ``save_teacher`` wrote.

    Raises:
        ModelNotFound: there is no such file.
        ModelUnreadable: it is damaged or no teacher of vitlet's.
    """
    if not path.is_file():
        raise ModelNotFound(f"there is no teacher at {path}; leave --teacher out to train one")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("vitlet_teacher") != SMALL_RESNET:
            raise ModelUnreadable(f"{path} holds no teacher that vitlet trained; leave --teacher out to train one")
        labels = tuple(str(label) for label in json.loads(metadata["labels"]))
        module = small_resnet(len(labels))
        module.load_state_dict(tensors)
    except (SafetensorError, KeyError, ValueError, RuntimeError, OSError) as error:
        raise ModelUnreadable(f"the teacher {path} is damaged ({error}); train it again") from error
    return Teacher(module, labels)
