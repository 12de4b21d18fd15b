"""Hugging Face image classifiers: ViT, DeiT and DINOv2, from the hub or a local folder.

Read are ``config.json``, ``preprocessor_config.json`` and the weights, with the hub's own client;
transformers is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlet.data.image_spec import spec_from_hf
from vitlet.errors import HubUnreachable, InvalidValue, ModelNotFound, ModelUnreadable
from vitlet.models.hf_config import architecture_from_hf, class_count, classifier_class, native_size, patch_size
from vitlet.models.hub import fetch
from vitlet.models.labels import labels_from_hf
from vitlet.models.positions import resized_spec
from vitlet.records import Classifier, ImageSpec, Progress, ProgressCallback, VitArchitecture, no_progress

if TYPE_CHECKING:
    from torch import Tensor, nn

_SAFE = "model.safetensors"
_PICKLED = "pytorch_model.bin"


@dataclass(frozen=True)
class HfRepository:
    """A repository on the hub (``owner/name``, perhaps of a revision), or a folder laid out like one."""

    name: str
    revision: str | None = None
    folder: Path | None = None

    @classmethod
    def named(cls, name: str) -> HfRepository:
        """``owner/name``, ``owner/name@revision``, or the path of a folder.

        Raises:
            ModelNotFound: it looks like a path, but there is no such folder.
        """
        path = Path(name).expanduser()
        if path.is_dir():
            return cls(name, folder=path)
        if name.startswith((".", "/", "~")):
            raise ModelNotFound(f"there is no folder {name}")
        repository, _, revision = name.partition("@")
        return cls(repository, revision=revision or None)

    def file(self, filename: str, progress: ProgressCallback = no_progress) -> Path | None:
        """The local path of one of its files, or ``None`` when it has no such file."""
        if self.folder is None:
            return fetch(self.name, filename, revision=self.revision, progress=progress)
        path = self.folder / filename
        return path if path.is_file() else None


def load_hf(
    name: str,
    *,
    random_weights: bool = False,
    seed: int = 0,
    image_size: int | None = None,
    progress: ProgressCallback = no_progress,
) -> Classifier:
    """Load a classifier of one of the classes ``vitlet.models.hf_config.SUPPORTED``.

    ``image_size`` (pixels, square) interpolates the positions as transformers does. Random weights
    need the repository's configuration all the same, but not its weights.

    Raises:
        ModelNotFound: no such repository, folder or file.
        ModelUnreadable: a file is damaged or contradicts another.
        HubUnreachable: the hub is down and the cache has no copy.
        Unsupported: another kind of model or image processor; the message lists those supported.
        InvalidValue: ``image_size`` holds no patch.
    """
    repository = HfRepository.named(name)
    config = read_config(repository, random_weights=random_weights)
    kind = classifier_class(config, origin=name)
    if image_size is not None and image_size < patch_size(config, origin=name):
        raise InvalidValue(f"an image of {image_size} pixels holds no patch of {patch_size(config, origin=name)}")
    spec = read_image_spec(repository, config, image_size)
    architecture = architecture_from_hf(config, height=spec.height, width=spec.width, origin=name)
    module = (
        _random(architecture, seed)
        if random_weights
        else convert(read_weights(repository, progress), architecture, kind, origin=name)
    )
    progress(Progress("load", name))
    return Classifier(
        module=module,
        architecture=architecture,
        image_spec=spec,
        labels=labels_from_hf(config, class_count(config, origin=name)),
        reference=f"hf:{name}",
        library="hf",
        random_weights=random_weights,
        seed=seed,
    )


def read_config(repository: HfRepository, *, random_weights: bool = False) -> dict[str, Any]:
    """Read ``config.json``.

    Raises:
        ModelNotFound, ModelUnreadable, HubUnreachable: it cannot be had.
    """
    try:
        path = repository.file("config.json")
    except HubUnreachable as error:
        if random_weights:
            raise HubUnreachable(
                f"random weights for hf:{repository.name} still need its config.json: {error}; "
                "a timm name needs no network at all"
            ) from error
        raise
    if path is None:
        raise ModelNotFound(f"{repository.name} holds no config.json, so it is no transformers model")
    return _read_json(path)


def read_image_spec(repository: HfRepository, config: Mapping[str, Any], image_size: int | None) -> ImageSpec:
    """The preprocessing of ``preprocessor_config.json`` (or of the model type, where there is none),
    for images of the size that the model is then built for.

    Raises:
        ModelUnreadable, Unsupported: the file makes no preprocessing that vitlet knows.
    """
    native = native_size(config, origin=repository.name)
    model_type = str(config.get("model_type", ""))
    path = repository.file("preprocessor_config.json") or repository.file("processor_config.json")
    try:
        spec = spec_from_hf({} if path is None else _read_json(path), default_size=native, model_type=model_type)
        # DINOv2 takes images of any size, so the processor decides; the others only of their own.
        if image_size is None and not model_type.startswith("dinov2") and (spec.height, spec.width) != native:
            if native[0] != native[1]:
                raise InvalidValue(f"it makes {spec.height}x{spec.width} pixels for a model of {native}")
            image_size = native[0]
        return spec if image_size is None else resized_spec(spec, image_size)
    except InvalidValue as error:
        raise ModelUnreadable(f"the image processor of {repository.name} cannot be read: {error}") from error


def read_weights(repository: HfRepository, progress: ProgressCallback = no_progress) -> dict[str, Tensor]:
    """Read all weights: safetensors if there are any (one file or sharded), else ``.bin`` files.

    Raises:
        ModelNotFound, ModelUnreadable, HubUnreachable: they cannot be had.
    """
    for single in (_SAFE, _PICKLED):
        path = repository.file(single, progress)
        if path is not None:
            return _read_file(path)
        index = repository.file(f"{single}.index.json", progress)
        if index is not None:
            return _read_shards(repository, index, progress)
    raise ModelNotFound(f"{repository.name} holds no weights: neither {_SAFE} nor {_PICKLED}")


def convert(state: Mapping[str, Tensor], architecture: VitArchitecture, kind: str, *, origin: str) -> nn.Module:
    """Fill the canonical ViT with a transformers state dict of the class ``kind``.

    Raises:
        ModelUnreadable: the weights do not fit.
    """
    from vitlet.models.hf_layout import from_hf_layout
    from vitlet.models.layout import assemble

    # Of these classes only DINOv2 with registers antialiases when it interpolates positions.
    antialias = kind.startswith("Dinov2With")
    return assemble(from_hf_layout(state, origin=origin), architecture, origin=origin, antialias=antialias)


def _random(architecture: VitArchitecture, seed: int) -> nn.Module:
    from vitlet.models.build import build

    return build(architecture, seed=seed)


def _read_shards(repository: HfRepository, index: Path, progress: ProgressCallback) -> dict[str, Tensor]:
    places = _read_json(index).get("weight_map")
    if not isinstance(places, Mapping) or not all(isinstance(place, str) for place in places.values()):
        raise ModelUnreadable(f"{index} names no files of weights")
    state: dict[str, Tensor] = {}
    for filename in sorted(set(places.values())):
        if Path(filename).name != filename:
            raise ModelUnreadable(f"{index} points outside the repository, to {filename!r}")
        path = repository.file(filename, progress)
        if path is None:
            raise ModelNotFound(f"{repository.name} lacks {filename}, which its index names")
        state |= _read_file(path)
    return state


def _read_file(path: Path) -> dict[str, Tensor]:
    from vitlet.models.pickle_file import read_state_dict
    from vitlet.models.safetensors_file import read_header, read_tensors

    if path.suffix == ".safetensors":
        return read_tensors(path, read_header(path).shapes)
    return read_state_dict(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelUnreadable(f"{path} is no readable JSON file: {error}") from error
    if not isinstance(content, dict):
        raise ModelUnreadable(f"{path} holds no JSON object")
    return content
