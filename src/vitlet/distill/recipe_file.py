"""Recipes as TOML files that can be printed, edited and rerun: reading, changing, printing.

A file names only what differs from the defaults of ``vitlet.distill.recipe``, which are DeiT's; what is
printed names everything.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib.resources import files
from typing import Any, get_type_hints

import tomlkit
from tomlkit.exceptions import TOMLKitError

from vitlet.data.find import path_at
from vitlet.distill.recipe import Recipe
from vitlet.errors import InvalidValue
from vitlet.records import from_json, to_json

_MOST_BYTES = 1_000_000


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with vitlet."""
    folder = files("vitlet.distill") / "recipes"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """The recipe of that name, or in the file of that path; ``changes`` are texts such as
    ``training.epochs=50``, applied in order.

    Raises:
        InvalidValue: there is none, it is no TOML, or a setting is unknown or out of its range; the
            message says which.
    """
    document = _parsed(_text(name), name)
    for change in changes:
        _apply(document, change)
    return _recipe(document, name)


def recipe_text(recipe: Recipe) -> str:
    """The whole recipe as TOML, every setting named; ``load_recipe`` reads it back as the same."""
    document = tomlkit.document()
    document.add(tomlkit.comment("A recipe of `vitlet distill`; what each setting means: docs/distill.md."))
    for name, values in to_json(recipe).items():
        table = tomlkit.table()
        _fill(table, values)
        document.add(name, table)
    return tomlkit.dumps(document)


def _fill(table: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping):
            inner = tomlkit.table()
            _fill(inner, value)
            table.add(name, inner)
        else:
            table.add(name, list(value) if isinstance(value, tuple) else value)


def _text(name: str) -> str:
    if name in recipe_names():
        return (files("vitlet.distill") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    path = path_at(name)
    if path is None or not path.is_file():
        known = ", ".join(recipe_names())
        raise InvalidValue(f"there is no recipe {name[:200]!r}; name a .toml file or one of {known}")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InvalidValue(f"{name} has {path.stat().st_size} bytes, too many for a recipe")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue(f"the recipe {name} cannot be read: {error}") from error


def _parsed(text: str, name: str) -> dict[str, Any]:
    try:
        return tomlkit.parse(text).unwrap()
    except (TOMLKitError, RecursionError) as error:
        raise InvalidValue(f"{name} is no TOML file: {error}") from error


def _apply(document: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise InvalidValue(f"{change!r} changes no setting; write one as in training.epochs=50")
    try:
        value = tomlkit.parse(f"value = {text.strip()}").unwrap()["value"]
    except TOMLKitError:
        value = text.strip()  # a word without quotes is a text
    place = document
    for part in parts[:-1]:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise InvalidValue(f"{key!r} is no setting of a recipe: {part!r} has none below it")
    place[parts[-1]] = value


def _recipe(document: Mapping[str, Any], name: str) -> Recipe:
    _refuse_unknown(document, Recipe, "")
    try:
        return from_json(document, Recipe)
    except InvalidValue as error:
        raise InvalidValue(f"recipe {name}: {str(error).removeprefix('not a valid Recipe: ')}") from error


def _refuse_unknown(document: Mapping[str, Any], kind: type, place: str) -> None:
    """msgspec passes over what a dataclass does not have; a mistyped setting must not be passed over."""
    known, types = [field.name for field in fields(kind)], get_type_hints(kind)
    for name, value in document.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {place}{close[0]}?" if close else f"there are: {', '.join(known)}"
            raise InvalidValue(f"a recipe has no setting {place}{name}; {hint}")
        if is_dataclass(types[name]) and isinstance(types[name], type):
            if not isinstance(value, Mapping):
                raise InvalidValue(f"a recipe's {place}{name} is a table of settings, not {value!r}")
            _refuse_unknown(value, types[name], f"{place}{name}.")
