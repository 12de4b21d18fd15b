"""What a user types to name a model, and the one function that loads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl

from vitlet.errors import InvalidValue, ModelNotFound
from vitlet.records import Classifier, ProgressCallback, no_progress

Source = Literal["timm", "hf", "deit", "bundled", "file"]

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


@dataclass(frozen=True)
class Reference:
    """A reference taken apart: ``name`` is what the source calls the model, or a path; ``options``
    are what stands behind a ``?`` after a file's path.
    """

    source: Source
    name: str
    options: Mapping[str, str] = field(default_factory=dict)


def parse(reference: str) -> Reference:
    """Tell what a reference names.

    ``timm:NAME`` (``NAME`` alone means timm), ``hf:owner/name`` or ``hf:./folder``, ``deit:NAME``,
    ``bundled``, a file (.safetensors, .pth, .pt, .bin; options such as ``?heads=3`` may follow),
    or a folder in Hugging Face's layout.

    Raises:
        ModelNotFound: it is a path to nothing, or an owner/name without ``hf:``.
        InvalidValue: it is empty.
    """
    text = reference.strip()
    if text == "bundled":
        return Reference("bundled", text)
    prefix, colon, rest = text.partition(":")
    if colon and prefix in ("timm", "hf", "deit") and rest:
        return Reference(prefix, rest)  # type: ignore[arg-type]
    if not text or (colon and prefix in ("timm", "hf", "deit")):
        raise InvalidValue(f"{reference!r} names no model; write timm:NAME, hf:owner/name, deit:NAME or a path")
    path, _, query = text.partition("?")
    if path.endswith(_SUFFIXES):
        return Reference("file", path, dict(parse_qsl(query, keep_blank_values=True)))
    if Path(text).is_dir() and not _timm_knows(text):
        return Reference("hf", text)
    if text.startswith(("hf-hub:", "local-dir:")):
        return Reference("timm", text)
    if "/" in text or text.startswith((".", "~")):
        hint = f"; if it is on the Hugging Face hub, write hf:{text}" if text.count("/") == 1 else ""
        raise ModelNotFound(f"there is no file or folder {text}{hint}")
    return Reference("timm", text)


def load(
    reference: str,
    *,
    random_weights: bool = False,
    seed: int = 0,
    image_size: int | None = None,
    progress: ProgressCallback = no_progress,
) -> Classifier:
    """Load the classifier that ``reference`` names (see ``parse``).

    ``random_weights`` gives the architecture with weights drawn from ``seed``, without downloading
    any. ``image_size`` (pixels, square) interpolates the positions to another resolution.

    Raises:
        ModelNotFound: there is no such model; the message names close ones.
        ModelUnreadable: its files are damaged, hostile or of a layout that vitlet does not know.
        HubUnreachable: it would have to be downloaded and cannot be.
        Unsupported: it is no image classifier that vitlet can use.
        InvalidValue: a setting does not go with the model.
    """
    if image_size is not None and not 1 <= image_size <= 8192:
        raise InvalidValue(f"image_size is {image_size}; it must be 1 to 8192 pixels")
    parsed = parse(reference)
    if parsed.source in ("file", "bundled"):
        if random_weights:
            raise InvalidValue(f"{reference} is its weights; random weights are for timm:, hf: and deit: names")
        loaded = _load_file(parsed, reference, image_size) if parsed.source == "file" else _load_bundled(image_size)
    elif parsed.source == "timm":
        from vitlet.models.timm import load_timm

        loaded = load_timm(
            parsed.name, random_weights=random_weights, seed=seed, image_size=image_size, progress=progress
        )
    elif parsed.source == "hf":
        from vitlet.models.hf import load_hf

        loaded = load_hf(
            parsed.name, random_weights=random_weights, seed=seed, image_size=image_size, progress=progress
        )
    else:
        from vitlet.models.deit import load_deit

        loaded = load_deit(
            parsed.name, random_weights=random_weights, seed=seed, image_size=image_size, progress=progress
        )
    return replace(loaded, reference=reference)


def _load_file(parsed: Reference, reference: str, image_size: int | None) -> Classifier:
    from vitlet.models.checkpoint import is_own, load_checkpoint
    from vitlet.models.foreign import load_foreign, read_options
    from vitlet.models.positions import resize_classifier
    from vitlet.models.safetensors_file import read_header

    path = Path(parsed.name).expanduser()
    if not path.is_file():
        raise ModelNotFound(f"there is no file {path}")
    if path.suffix == ".safetensors" and is_own(read_header(path)):
        if parsed.options:
            raise InvalidValue(f"{path} says itself how it is built; leave out '?{next(iter(parsed.options))}=...'")
        loaded = load_checkpoint(path)
    else:
        loaded = load_foreign(path, read_options(parsed.options), reference=reference)
    return loaded if image_size is None else resize_classifier(loaded, image_size)


def _load_bundled(image_size: int | None) -> Classifier:
    from vitlet.models.bundled import load_bundled
    from vitlet.models.positions import resize_classifier

    loaded = load_bundled()
    return loaded if image_size is None else resize_classifier(loaded, image_size)


def _timm_knows(name: str) -> bool:
    import timm

    return "/" not in name and bool(timm.is_model(name))
