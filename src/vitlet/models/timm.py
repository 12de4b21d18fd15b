"""Classifiers from timm: a plain ViT becomes the canonical one, any other stays timm's own module.

Weights come through timm's own hub code. ``NAME`` is what ``timm.create_model`` takes: an
architecture with or without a tag, ``hf-hub:owner/name`` (``@revision``), or ``local-dir:folder``.
"""

from __future__ import annotations

import difflib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vitlet.data.image_spec import spec_from_timm
from vitlet.errors import InvalidValue, ModelNotFound, ModelUnreadable, Unsupported
from vitlet.models.build import expected_tensors
from vitlet.models.download import torch_hub_checkpoint
from vitlet.models.hub import fetch, hub_errors
from vitlet.models.labels import labels_from_timm
from vitlet.records import Architecture, Classifier, Progress, ProgressCallback, TimmArchitecture, no_progress

if TYPE_CHECKING:
    from torch import nn

#: What timm, torch and safetensors raise for files that do not fit the model.
_LOADING_ERRORS = (RuntimeError, ValueError, KeyError, TypeError, AssertionError, EOFError, pickle.UnpicklingError)


@dataclass(frozen=True)
class TimmSource:
    """Where a timm model comes from: ``name`` is the architecture with its tag, ``options`` the
    arguments that its repository stores, ``cfg`` timm's ``pretrained_cfg``.
    """

    kind: Literal["registry", "hf-hub", "local-dir"]
    name: str
    cfg: Mapping[str, Any]
    options: Mapping[str, Any]
    repository: str = ""
    revision: str | None = None


def load_timm(
    name: str,
    *,
    random_weights: bool = False,
    seed: int = 0,
    image_size: int | None = None,
    progress: ProgressCallback = no_progress,
) -> Classifier:
    """Load a timm classifier; ``image_size`` (pixels, square) interpolates a ViT's positions.

    Raises:
        ModelNotFound: timm has no such model or no weights for it; the message names close ones.
        ModelUnreadable: the weights are damaged or do not fit.
        HubUnreachable: the weights cannot be downloaded.
        Unsupported: the model has no classifier head, or takes other than RGB images.
    """
    source = resolve(name, progress=progress)
    _check_classifier(name, source.cfg.get("num_classes"))
    if not random_weights:
        _download(source, progress)
    progress(Progress("load", name))
    model: Any = create(name, source, pretrained=not random_weights, seed=seed, image_size=image_size)
    _check_classifier(name, model.num_classes)
    cfg = _sized_cfg(dict(model.pretrained_cfg), model, image_size)
    module, architecture, note = _canonical_or_opaque(model, source, cfg, image_size)
    return Classifier(
        module=module,
        architecture=architecture,
        image_spec=spec_from_timm(cfg),
        labels=labels_from_timm(cfg, architecture.classes),
        reference=f"timm:{name}",
        library="timm",
        random_weights=random_weights,
        seed=seed,
        note=note,
    )


def resolve(name: str, *, progress: ProgressCallback = no_progress) -> TimmSource:
    """Find out what ``name`` means, from timm's registry, the hub or a folder.

    Raises:
        ModelNotFound, HubUnreachable, ModelUnreadable: as ``load_timm`` says.
    """
    from timm import models

    kind, _, place = name.partition(":")
    if kind in ("hf-hub", "hf_hub"):
        repository, _, revision = place.partition("@")
        if fetch(repository, "config.json", revision=revision or None, progress=progress) is None:
            raise ModelNotFound(f"the repository {repository} has no config.json, so it holds no timm model")
        with hub_errors(repository):
            cfg, architecture, options = _read_config(models.load_model_config_from_hf, place)
        return TimmSource("hf-hub", architecture, cfg, options, repository, revision or None)
    if kind == "local-dir":
        if not (Path(place) / "config.json").is_file():
            raise ModelNotFound(f"{place} holds no config.json, so it is no folder of a timm model")
        from timm.models._hub import load_model_config_from_path

        cfg, architecture, options = _read_config(load_model_config_from_path, place)
        return TimmSource("local-dir", architecture, cfg, options)
    return _from_registry(name)


def create(
    name: str, source: TimmSource, *, pretrained: bool, seed: int = 0, image_size: int | None = None
) -> nn.Module:
    """Let timm make its own module, in eval mode; random weights are drawn from ``seed`` and the
    caller's random state is left as it was.

    Raises:
        ModelUnreadable: timm cannot load it.
        InvalidValue: the architecture cannot be had at this image size.
    """
    import timm
    import torch

    full = name if source.kind != "registry" else source.name
    sized: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
    with hub_errors(source.repository or name), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model: nn.Module = timm.create_model(full, pretrained=pretrained, **sized)
        except _LOADING_ERRORS as error:
            if not sized:
                raise ModelUnreadable(f"timm cannot load {name}: {_first_line(error)}") from error
            if "img_size" in str(error) and isinstance(error, TypeError):
                # A convolutional network has no fixed size to set.
                return create(name, source, pretrained=pretrained, seed=seed)
            raise InvalidValue(f"timm cannot make {name} for {image_size} pixels: {_first_line(error)}") from error
    return model.eval()


def _from_registry(name: str) -> TimmSource:
    from timm import models

    current = models.get_deprecated_models().get(name, name)  # None for a model that timm removed
    if current is None or not models.is_model(current):
        raise ModelNotFound(f"timm has no model {name!r}{_suggest(name, models.list_models())}")
    name = current
    try:
        cfg = models.get_pretrained_cfg(name)
    except RuntimeError as error:
        known = list(models.get_arch_pretrained_cfgs(name))
        raise ModelNotFound(f"timm has no weights {name!r}{_suggest(name, known)}") from error
    fields: dict[str, Any] = {} if cfg is None else dict(vars(cfg))
    return TimmSource("registry", name, fields, {}, repository=str(fields.get("hf_hub_id") or ""))


def _read_config(read: Any, place: str) -> tuple[dict[str, Any], str, dict[str, Any]]:
    try:
        cfg, architecture, options = read(place)
        if not isinstance(cfg, dict) or not isinstance(architecture, str) or not isinstance(options, dict):
            raise ValueError("it is not laid out as timm's")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnreadable(
            f"the config.json of {place} is not timm's ({_first_line(error)}); "
            f"if it is a transformers model, write hf:{place}"
        ) from error
    return cfg, architecture, options


def _download(source: TimmSource, progress: ProgressCallback) -> None:
    """Bring the weights into the cache where timm looks for them first."""
    if source.kind == "local-dir":
        return
    if not source.repository:
        if source.cfg.get("url"):  # some weights lie outside the hub; timm looks into torch.hub's folder
            torch_hub_checkpoint(source.cfg["url"], progress)
            return
        raise ModelNotFound(
            f"timm has no weights for {source.name}; give a tag that has some, or use --random-weights for speed work"
        )
    repository, _, revision = source.repository.partition("@")
    stored = source.cfg.get("hf_hub_filename") or "pytorch_model.bin"
    safe = "model.safetensors" if stored == "pytorch_model.bin" else f"{Path(stored).stem}.safetensors"
    for filename in dict.fromkeys((safe, stored)):
        if fetch(repository, filename, revision=source.revision or revision or None, progress=progress) is not None:
            return
    raise ModelNotFound(f"the repository {repository} holds no weights: neither {safe} nor {stored}")


def _canonical_or_opaque(
    model: nn.Module, source: TimmSource, cfg: Mapping[str, Any], image_size: int | None
) -> tuple[nn.Module, Architecture, str]:
    from vitlet.models.timm_vit import NotCanonical, canonical_vit

    try:
        architecture, module = canonical_vit(model)
        return module, architecture, ""
    except NotCanonical as reason:
        opaque = _opaque_architecture(model, source, cfg, image_size)
        _check_runs(model, opaque)
        return model, opaque, f"kept as timm's own module: {reason}"


def _opaque_architecture(
    model: nn.Module, source: TimmSource, cfg: Mapping[str, Any], image_size: int | None
) -> TimmArchitecture:
    # The number of classes and of channels stand elsewhere.
    options = {key: value for key, value in source.options.items() if key not in ("num_classes", "in_chans")}
    if source.kind != "registry":  # its cfg is not in timm's registry, so what comes from it is said here
        options.setdefault("global_pool", cfg.get("global_pool"))
        if cfg.get("fixed_input_size"):
            options.setdefault("img_size", cfg["input_size"][-1])
    if image_size is not None and cfg.get("fixed_input_size"):
        options["img_size"] = image_size
    options = {key: _plain(value) for key, value in options.items() if value is not None}
    odd = [key for key, value in options.items() if not isinstance(value, int | float | bool | str)]
    if odd:
        raise Unsupported(f"{source.name} with option {odd[0]}={options[odd[0]]!r} cannot be rebuilt from its name")
    channels, height, width = cfg["input_size"]
    if channels != 3:
        raise Unsupported(f"{source.name} takes {channels} channels; vitlet feeds RGB images")
    architecture = TimmArchitecture(source.name, int(model.num_classes), height, width, options)  # type: ignore[arg-type]
    ours = {name: tensor.shape for name, tensor in expected_tensors(architecture).items()}
    if ours != {name: tensor.shape for name, tensor in model.state_dict().items()}:
        raise Unsupported(f"{source.name} cannot be rebuilt from its name and {options}: its weights have other shapes")
    return architecture


def _check_runs(model: nn.Module, architecture: TimmArchitecture) -> None:
    import torch

    size = (architecture.image_height, architecture.image_width)
    try:
        with torch.inference_mode():
            found = getattr(model(torch.zeros(1, 3, *size)), "shape", None)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise InvalidValue(f"{architecture.name} cannot take images of {size} pixels: {_first_line(error)}") from error
    if found != (1, architecture.classes):
        raise Unsupported(f"{architecture.name} is no classifier: of one image it makes {found}, not one row of logits")


def _plain(value: Any) -> Any:
    """[160, 160] as 160: timm stores an image size so, and either is the same to it."""
    same = isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]
    return value[0] if same else value


def _sized_cfg(cfg: dict[str, Any], model: Any, image_size: int | None) -> dict[str, Any]:
    """``cfg`` for the size of image that the model was really made for."""
    made_for = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if image_size is not None:
        made_for = (image_size, image_size)
    if made_for is not None and cfg.get("input_size"):
        cfg["input_size"] = (cfg["input_size"][0], *made_for)
    return cfg


def _check_classifier(name: str, classes: object) -> None:
    if classes == 0:
        raise Unsupported(f"{name} has no classifier head (it gives features); choose a model with classes")


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else "; `timm.list_models()` lists those there are"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
