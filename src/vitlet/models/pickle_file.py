"""Reading PyTorch's own files (``.pth``, ``.pt``, ``.bin``) without running code from them."""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlet.errors import ModelNotFound, ModelUnreadable

if TYPE_CHECKING:
    from torch import Tensor

#: Keys under which training scripts keep the weights, the better ones (averaged over training) first.
WRAPPERS = ("model_ema", "state_dict_ema", "model", "state_dict", "module")

#: Prefixes that distributed training and ``torch.compile`` put before each name.
_PREFIXES = ("module.", "_orig_mod.")

_FORBIDDEN = re.compile(r"Unsupported (?:global|class)\S* (?:GLOBAL )?(\w+\.[\w.]+)")


def read_state_dict(path: Path, *, key: str | None = None) -> dict[str, Tensor]:
    """Read a state dict from a file of ``torch.save``, out of the wrappers that training scripts
    put around it; ``key`` names the entry to take where there are several.

    Raises:
        ModelNotFound: there is no such file.
        ModelUnreadable: it is damaged, holds code, or no weights.
    """
    loaded = _read(path)
    state = _strip(_unwrap(loaded, key, path))
    tensors = {name: value for name, value in state.items() if _is_tensor(value)}
    # A damaged or hostile file can make a tensor that is larger than the numbers stored for it.
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if needed > path.stat().st_size:
        raise ModelUnreadable(f"{path} says it holds {needed} bytes of weights but is smaller; get it again")
    if not tensors:
        raise ModelUnreadable(f"{path} holds no weights; its keys are {', '.join(map(str, list(state)[:5])) or 'none'}")
    return tensors


def _read(path: Path) -> Any:
    import torch

    _check_archive(path)
    try:
        # Training scripts store their command line as a Namespace, which is plain data.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can make the unpickler raise anything
        forbidden = _FORBIDDEN.search(str(error))
        if forbidden:
            raise ModelUnreadable(
                f"{path} holds more than weights ({forbidden.group(1)}) and vitlet runs no code from a model file; "
                "save its state_dict alone, or as .safetensors"
            ) from error
        raise ModelUnreadable(f"{path} is no whole PyTorch file of weights; get it again") from error


def _check_archive(path: Path) -> None:
    try:
        size = path.stat().st_size
        if not zipfile.is_zipfile(path):
            return  # the format before PyTorch 1.6; torch.load tells whether it is one
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except FileNotFoundError as error:
        raise ModelNotFound(f"there is no file {path}") from error
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ModelUnreadable(f"{path} cannot be read: {error}") from error
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise ModelUnreadable(f"{path} is a TorchScript program, not weights; save the model's state_dict instead")
    if sum(entry.file_size for entry in entries) > size:
        raise ModelUnreadable(f"{path} is compressed, which PyTorch's own files never are; get it again")


def _unwrap(loaded: Any, key: str | None, path: Path) -> dict[str, Any]:
    if not isinstance(loaded, Mapping):
        raise ModelUnreadable(f"{path} holds a {type(loaded).__name__}, not a state dict; save the state_dict")
    if key is not None:
        if not isinstance(loaded.get(key), Mapping):
            raise ModelUnreadable(f"{path} has no weights under {key!r}; its keys are {', '.join(map(str, loaded))}")
        return dict(loaded[key])
    for wrapper in WRAPPERS:
        if isinstance(loaded.get(wrapper), Mapping):
            return dict(loaded[wrapper])
    return dict(loaded)


def _strip(state: Mapping[Any, Any]) -> dict[str, Any]:
    names = {str(name): value for name, value in state.items()}
    for prefix in _PREFIXES:
        if names and all(name.startswith(prefix) for name in names):
            names = {name.removeprefix(prefix): value for name, value in names.items()}
    return names


def _is_tensor(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized
