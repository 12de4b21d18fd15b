"""The model that comes with vitlet: a small distilled ViT for Fashion-MNIST, model reference "bundled".

How it was trained and what it reaches stands in docs/bundled-model.md.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vitlet.errors import ModelNotFound
from vitlet.models.checkpoint import load_checkpoint
from vitlet.records import Classifier


def bundled_weights() -> Path:
    """The bundled model's file: weights in float16, architecture, ``ImageSpec`` and labels."""
    return Path(__file__).with_name("bundled.safetensors")


def load_bundled() -> Classifier:
    """The bundled model: images float32 [batch, 3, 28, 28] -> logits float32 [batch, 10].

    Raises:
        ModelNotFound: this copy of vitlet was built without it.
        ModelUnreadable: the file is damaged.
    """
    path = bundled_weights()
    if not path.is_file():
        raise ModelNotFound(f"this copy of vitlet was built without its bundled model ({path} is missing)")
    return replace(load_checkpoint(path), reference="bundled", library="bundled")
