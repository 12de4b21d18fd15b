"""Names of classes, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def class_labels(classes: int) -> tuple[str, ...]:
    """The label of each class: ImageNet's descriptions where the number of classes tells that it
    is ImageNet-1k or one of the 21k sets (WordNet lemmas, by timm), else "class 0", "class 1", ...
    """
    import timm.data

    data: Any = timm.data  # it exports these without saying so
    subset = data.infer_imagenet_subset({"num_classes": classes})
    if subset is None:
        return tuple(f"class {index}" for index in range(classes))
    return tuple(data.ImageNetInfo(subset).label_descriptions())


def labels_from_timm(pretrained_cfg: Mapping[str, Any], classes: int) -> tuple[str, ...]:
    """The labels that a timm repository names itself (``label_names``, a list or an index to name
    mapping, and ``label_descriptions`` of these names), else ``class_labels``.
    """
    names = _by_index(pretrained_cfg.get("label_names"), classes)
    if names is None:
        return class_labels(classes)
    descriptions = pretrained_cfg.get("label_descriptions")
    if isinstance(descriptions, Mapping):
        return tuple(str(descriptions.get(name, name)) for name in names)
    return names


def labels_from_hf(config: Mapping[str, Any], classes: int) -> tuple[str, ...]:
    """The labels of a Hugging Face ``config.json`` (``id2label``), else ``class_labels``."""
    names = _by_index(config.get("id2label"), classes)
    if names is None or all(name == f"LABEL_{index}" for index, name in enumerate(names)):
        return class_labels(classes)
    return names


def _by_index(names: object, classes: int) -> tuple[str, ...] | None:
    if isinstance(names, Mapping):
        named = {str(index): str(name) for index, name in names.items()}
        found = [named.get(str(index), f"class {index}") for index in range(classes)]
        return tuple(found) if named else None
    if isinstance(names, Sequence) and not isinstance(names, str) and len(names) == classes:
        return tuple(str(name) for name in names)
    return None
