"""Make a module from its architecture alone, so that a file of weights can be filled into it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from vitlet.errors import InvalidValue, ModelNotFound
from vitlet.records import Architecture, TimmArchitecture, VitArchitecture

if TYPE_CHECKING:
    import torch
    from torch import nn

#: A model of vitlet's own that timm builds: its module registers it when it is imported.
SMALL_RESNET = "vitlet_small_resnet"
#: No timm model is deeper or wider than this; a file that says so would only waste hours.
_LARGEST_OPTION = 16384
_LARGEST_DEPTH = 512


def build(architecture: Architecture, *, seed: int = 0) -> nn.Module:
    """Build the module, in eval mode on the CPU, with seeded random weights; nothing is downloaded.

    Images float32 [batch, 3, image_height, image_width] -> logits float32 [batch, classes]. The
    caller's random state is left as it was.

    Raises:
        ModelNotFound: the installed timm has no model of that name.
        InvalidValue: timm refuses the options.
    """
    if isinstance(architecture, VitArchitecture):
        from vitlet.models.vit import build_vit

        return build_vit(architecture, seed=seed)
    return _build_timm(architecture, seed=seed)


def build_for_weights(architecture: Architecture) -> nn.Module:
    """Build the module to have all its weights replaced: a canonical ViT comes on torch's ``meta``
    device, so that it costs neither memory nor the drawing of random numbers.
    """
    if isinstance(architecture, VitArchitecture):
        return _build_on_meta(architecture)
    return _build_timm(architecture, seed=0)


def expected_tensors(architecture: Architecture) -> dict[str, torch.Tensor]:
    """Every tensor that a state dict of this architecture holds, on torch's ``meta`` device:
    names, shapes and dtypes, but no memory.
    """
    return dict(_build_on_meta(architecture).state_dict())


def refused_timm_options() -> frozenset[str]:
    """Names that may not stand in ``TimmArchitecture.options``: the arguments of timm's own
    factories (``pretrained``, ``checkpoint_path``, ...), by which a file of weights could make
    timm download or unpickle something.
    """
    import timm
    from timm.models import build_model_with_cfg

    factories = (timm.create_model, build_model_with_cfg)
    names = {name for factory in factories for name in inspect.signature(factory).parameters}
    return frozenset(names | {"features_only", "num_classes", "in_chans", "pretrained_model_args"})


def _build_on_meta(architecture: Architecture) -> nn.Module:
    import torch

    from vitlet.models.vit import VisionTransformer

    with torch.device("meta"):
        if isinstance(architecture, VitArchitecture):
            return VisionTransformer(architecture).eval()
        return _build_timm(architecture, seed=0)


def _build_timm(architecture: TimmArchitecture, *, seed: int) -> nn.Module:
    import timm
    import torch

    _check_options(architecture)
    if architecture.name == SMALL_RESNET:
        import vitlet.models.small_resnet  # noqa: F401
    if not timm.is_model(architecture.name):
        raise ModelNotFound(
            f"timm {timm.__version__} has no model {architecture.name!r}; install the timm version that has it"
        )
    options: dict[str, Any] = dict(architecture.options)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module: nn.Module = timm.create_model(architecture.name, num_classes=architecture.classes, **options)
    except (TypeError, ValueError, AssertionError, RuntimeError, KeyError) as error:
        raise InvalidValue(f"timm cannot build {architecture.name} with options {options}: {error}") from error
    return module.eval()


def _check_options(architecture: TimmArchitecture) -> None:
    refused = sorted(set(architecture.options) & refused_timm_options())
    if refused:
        raise InvalidValue(f"timm option {refused[0]!r} of {architecture.name} does not describe an architecture")
    for name, value in architecture.options.items():
        most = _LARGEST_DEPTH if "depth" in name else _LARGEST_OPTION
        if not isinstance(value, str) and not abs(value) <= most:
            raise InvalidValue(f"timm option {name}={value} of {architecture.name} is too large; it may be {most}")
