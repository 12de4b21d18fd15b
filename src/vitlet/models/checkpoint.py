"""vitlet's own model files: safetensors whose metadata holds what rebuilds the classifier.

Metadata keys: ``vitlet_format`` ("1"), ``vitlet_architecture``, ``vitlet_image_spec`` and
``vitlet_labels``, each but the first as JSON.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from vitlet.errors import InvalidValue, ModelUnreadable, NotWritable
from vitlet.models.build import build_for_weights, expected_tensors
from vitlet.models.safetensors_file import Header, read_header, read_tensors, sort_metadata
from vitlet.models.weights import check_shapes, fill
from vitlet.records import Architecture, Classifier, ImageSpec, architecture_from_json, from_json, to_json

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "1"
_KEYS = ("vitlet_architecture", "vitlet_image_spec", "vitlet_labels")


def save_checkpoint(
    classifier: Classifier, path: str | Path, *, dtype: Literal["float32", "float16", "bfloat16"] = "float32"
) -> Path:
    """Write ``classifier`` as one safetensors file and return its path; "float16" and
    "bfloat16" halve the size. Equal classifiers make equal files.

    A file that is already there is replaced only once the new one is complete.

    Raises:
        InvalidValue: the weights do not fit half precision, or ``dtype`` is none of the three.
        NotWritable: no such folder, no permission, no space.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    state = _to_store(classifier, dtype)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        save_file(state, partial, metadata=_metadata(classifier))
        sort_metadata(partial)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise NotWritable(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return path


def load_checkpoint(path: str | Path) -> Classifier:
    """Read a file that ``save_checkpoint`` wrote; its weights become float32.

    Raises:
        ModelNotFound: there is no such file.
        ModelUnreadable: it is damaged, was not written by vitlet, or contradicts itself.
    """
    path = Path(path)
    header = read_header(path)
    if not is_own(header):
        raise ModelUnreadable(f"{path} was not written by vitlet: its metadata has no vitlet_architecture")
    architecture, image_spec, labels = _read_metadata(path, header)
    try:
        expected = {name: tuple(tensor.shape) for name, tensor in expected_tensors(architecture).items()}
        check_shapes(expected, header.shapes, origin=str(path))
        module = fill(build_for_weights(architecture), read_tensors(path, header.shapes), origin=str(path))
        return Classifier(module, architecture, image_spec, labels, reference=str(path), library="checkpoint")
    except InvalidValue as error:
        raise ModelUnreadable(f"{path} contradicts itself: {error}") from error


def is_own(header: Header) -> bool:
    """Whether ``save_checkpoint`` wrote the file with this header."""
    return "vitlet_architecture" in header.metadata


def _metadata(classifier: Classifier) -> dict[str, str]:
    values = (classifier.architecture, classifier.image_spec, classifier.labels)
    encoded = {key: msgspec.json.encode(to_json(value)).decode() for key, value in zip(_KEYS, values, strict=True)}
    return {"vitlet_format": FORMAT, **encoded}


def _to_store(classifier: Classifier, dtype: str) -> dict[str, Tensor]:
    import torch

    kinds = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if dtype not in kinds:
        raise InvalidValue(f"dtype is {dtype!r}; a checkpoint is stored as 'float32', 'float16' or 'bfloat16'")
    state = {}
    for name, tensor in classifier.module.state_dict().items():
        stored = tensor.detach().cpu().to(kinds[dtype]) if tensor.is_floating_point() else tensor.detach().cpu()
        if stored.is_floating_point() and not bool(torch.isfinite(stored).all()):
            raise InvalidValue(f"tensor {name} holds numbers that {dtype} cannot; nothing was written")
        state[name] = stored.contiguous()
    return state


def _read_metadata(path: Path, header: Header) -> tuple[Architecture, ImageSpec, tuple[str, ...]]:
    written = header.metadata.get("vitlet_format")
    if written != FORMAT:
        raise ModelUnreadable(f"{path} has vitlet format {written!r}; this vitlet reads {FORMAT!r}: update vitlet")
    try:
        architecture = architecture_from_json(_decode(header, "vitlet_architecture"))
        image_spec = from_json(_decode(header, "vitlet_image_spec"), ImageSpec)
        labels = from_json(_decode(header, "vitlet_labels"), tuple[str, ...])
    except (InvalidValue, msgspec.DecodeError, RecursionError, KeyError) as error:
        raise ModelUnreadable(f"{path} has metadata that cannot be read: {error}") from error
    size = (architecture.image_height, architecture.image_width)
    if size != (image_spec.height, image_spec.width):
        raise ModelUnreadable(
            f"{path} contradicts itself: a model for {size[0]}x{size[1]} pixels, "
            f"images of {image_spec.height}x{image_spec.width}"
        )
    return architecture, image_spec, labels


def _decode(header: Header, key: str) -> Any:
    if key not in header.metadata:
        raise InvalidValue(f"{key} is missing")
    return msgspec.json.decode(header.metadata[key])
