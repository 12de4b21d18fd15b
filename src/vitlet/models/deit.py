"""The original DeiT checkpoints (Touvron et al., 2012.12877) under their torch.hub names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vitlet.errors import ModelNotFound
from vitlet.records import Classifier, ImageSpec, Progress, ProgressCallback, VitArchitecture, no_progress

#: Where Meta serves them.
BASE_URL = "https://dl.fbaipublicfiles.com/deit/"

#: Each file's name ends in the first 8 hex digits of its SHA-256, as torch.hub's names do.
FILES: Mapping[str, str] = {
    "deit_tiny_patch16_224": "deit_tiny_patch16_224-a1311bcf.pth",
    "deit_small_patch16_224": "deit_small_patch16_224-cd65a155.pth",
    "deit_base_patch16_224": "deit_base_patch16_224-b5f2ef4d.pth",
    "deit_tiny_distilled_patch16_224": "deit_tiny_distilled_patch16_224-b40b3cf7.pth",
    "deit_small_distilled_patch16_224": "deit_small_distilled_patch16_224-649709d9.pth",
    "deit_base_distilled_patch16_224": "deit_base_distilled_patch16_224-df68dfff.pth",
    "deit_base_patch16_384": "deit_base_patch16_384-8de9b5d1.pth",
    "deit_base_distilled_patch16_384": "deit_base_distilled_patch16_384-d0272ac0.pth",
}

_HEADS = {"tiny": 3, "small": 6, "base": 12}


def load_deit(
    name: str,
    *,
    random_weights: bool = False,
    seed: int = 0,
    image_size: int | None = None,
    progress: ProgressCallback = no_progress,
) -> Classifier:
    """Load an original DeiT by its torch.hub name, such as ``deit_base_patch16_384``.

    ``image_size`` (pixels, square) interpolates the positions. Random weights are those of timm's
    implementation under ``seed``.

    Raises:
        ModelNotFound: there is no DeiT of that name; the message lists them.
        ModelUnreadable: the file is not the published one.
        HubUnreachable: it cannot be downloaded.
        NotWritable: it cannot be stored in torch.hub's folder.
    """
    from vitlet.models.labels import class_labels
    from vitlet.models.layout import assemble
    from vitlet.models.pickle_file import read_state_dict
    from vitlet.models.timm_layout import from_timm_layout

    architecture = deit_architecture(name, image_size)
    spec = deit_image_spec(architecture.image_height)
    if random_weights:
        from vitlet.models.timm import load_timm

        drawn = load_timm(name, random_weights=True, seed=seed, image_size=image_size, progress=progress)
        return replace(drawn, image_spec=spec, reference=f"deit:{name}", library="deit")
    path = checkpoint_path(name, progress)
    progress(Progress("load", name))
    renamed = from_timm_layout(read_state_dict(path), origin=str(path))
    return Classifier(
        # DeiT's own code interpolates without antialiasing.
        module=assemble(renamed, architecture, origin=str(path), antialias=False),
        architecture=architecture,
        image_spec=spec,
        labels=class_labels(architecture.classes),
        reference=f"deit:{name}",
        library="deit",
    )


def deit_architecture(name: str, image_size: int | None = None) -> VitArchitecture:
    """The architecture of a DeiT (2012.12877, table 1).

    Raises:
        ModelNotFound: there is no DeiT of that name.
    """
    if name not in FILES:
        close = difflib.get_close_matches(name, FILES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(FILES)}"
        raise ModelNotFound(f"the DeiT repository has no model {name!r}; {hint}")
    parts = name.split("_")
    heads = _HEADS[parts[1]]
    size = image_size or int(parts[-1])
    return VitArchitecture(
        image_height=size,
        image_width=size,
        patch=16,
        width=64 * heads,
        depth=12,
        heads=heads,
        mlp_width=256 * heads,
        classes=1000,
        distillation_token="distilled" in parts,
    )


def deit_image_spec(size: int) -> ImageSpec:
    """DeiT's evaluation transform: the shorter edge to 256/224 of the size, bicubic, centre crop."""
    return ImageSpec(height=size, width=size, resize=int(256 / 224 * size))


def checkpoint_path(name: str, progress: ProgressCallback = no_progress) -> Path:
    """The published file in torch.hub's folder, downloaded when it is not there or is damaged.

    Raises:
        HubUnreachable, ModelUnreadable, NotWritable: as ``load_deit`` says.
    """
    from vitlet.models.download import torch_hub_checkpoint

    return torch_hub_checkpoint(BASE_URL + FILES[name], progress)
