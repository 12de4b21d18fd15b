"""What is another in one bundle than in an older one, as far as their manifests tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from vitlet.bundle.manifest import Manifest


def differences(old: Manifest, new: Manifest) -> tuple[str, ...]:
    """Sentences about what was chosen, how images are prepared, the model's shape and what it was made with."""
    return tuple(_differences(old, new))


def _differences(old: Manifest, new: Manifest) -> Iterator[str]:
    if old.reference != new.reference:
        yield f"It was made from {new.reference} instead of {old.reference}."
    before, after = (f"{m.model.engine} {m.model.precision}" for m in (old, new))
    if before != after:
        yield f"It runs on {after} instead of {before}."
    for part in fields(old.image_spec):
        one, other = getattr(old.image_spec, part.name), getattr(new.image_spec, part.name)
        if one != other:
            yield f"Images are prepared otherwise: {part.name} is {_told(other)} instead of {_told(one)}."
    if old.architecture != new.architecture:
        yield "The model has another architecture."
    had, has = old.environment.packages, new.environment.packages
    changed = [f"{name} {had.get(name, 'none')} -> {has[name]}" for name in has if had.get(name) != has[name]]
    if changed:
        yield f"Versions changed: {', '.join(changed)}."
    if old.environment.processor != new.environment.processor:
        yield f"It was measured on {new.environment.processor} instead of {old.environment.processor}."


def _told(value: object) -> str:
    return f"({', '.join(f'{one:g}' for one in value)})" if isinstance(value, tuple) else str(value)
