"""What was found, in sentences for a person who did not write the application."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from .selftest_application import Prepared
from .selftest_drift import Cause, Drift
from .selftest_numerics import Answers, Speed

_NAMES = {"resize": "size and crop", "values": "scale of the values", "channels": "order of the channels"}


def printable(text: str) -> str:
    """Without what could steer a terminal: a bundle's labels and names may be anybody's."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def about_manifest(cause: Cause, where: Sequence[str]) -> str:
    """The manifest asks for something else than the golden inputs were made with: of ``cause``, ``wanted`` is what the
    manifest says and ``found`` the truth.
    """
    name = _NAMES.get(cause.what, cause.what)
    return (
        f"the {name} differs: manifest.json says {cause.wanted}, and the model was measured with {cause.found} "
        f"({_listed(where)})"
    )


def about_preparing(cause: Cause, who: str, where: Sequence[str]) -> str:
    """Code prepares an image otherwise than the model needs it."""
    on = f" ({_listed(where)})"
    if cause.what == "channels":
        swapped = "red and blue are swapped: " if cause.found == "BGR" else ""
        return f"{swapped}{who} gives the channels as {cause.found}, and the model wants {cause.wanted}{on}"
    if cause.what == "filter":
        return f"{who} resizes with the filter {cause.found}, and the model wants {cause.wanted}{on}"
    if cause.what == "turn" and cause.found.startswith("not turned"):
        return (
            f"{who} ignores the EXIF orientation, so that photos from a phone lie on their side; turn them first, as "
            f"PIL.ImageOps.exif_transpose does{on}"
        )
    if cause.what == "turn":
        return f"{who} gives the image {cause.found}; is an augmentation of the training still on?{on}"
    if cause.what == "resize":
        return f"{who} gives the image {cause.found}; the model wants: {cause.wanted}{on}"
    if cause.what == "values":
        return f"{who} gives values that are {cause.found}; the model wants them {cause.wanted}{on}"
    if cause.what == "layout" and cause.found.startswith("reshaped"):
        return f"{who} gives pixels {cause.found}, which mixes them up; they must be {cause.wanted}{on}"
    if cause.what == "layout":
        return f"{who} gives the axes {cause.found}, and the model wants {cause.wanted}{on}"
    return f"{who} normalises with the {cause.what} {cause.found}, and the model wants {cause.wanted}{on}"


def about_drifts(who: str, drifts: Mapping[str, Drift]) -> list[str]:
    """The causes of all images together, each told once; and what remains without one."""
    found = grouped((name, drift.causes) for name, drift in drifts.items())
    told = [about_preparing(cause, who, where) for cause, where in found]
    unknown = {name: drift for name, drift in drifts.items() if not drift.causes and not drift.is_close}
    if unknown and not told:
        worst = max(unknown.values(), key=lambda drift: drift.average)
        told.append(
            f"{who} gives other inputs, and none of the usual mistakes explains it: {worst.average:.2g} levels of 255 "
            f"apart on average, {worst.largest:.3g} at most ({_listed(list(unknown))})"
        )
    return told


def grouped(causes: Iterable[tuple[str, Sequence[Cause]]]) -> list[tuple[Cause, list[str]]]:
    """Each kind of cause once, as it was found first, with the names of all images that show it."""
    found: dict[tuple[str, str], tuple[Cause, list[str]]] = {}
    for name, some in causes:
        for cause in some:
            # A fitted mean, or a size, differs in its last digit from image to image.
            key = (cause.what, cause.found if cause.what == "turn" else "")
            found.setdefault(key, (cause, []))[1].append(name)
    return list(found.values())


def about_equal(who: str, count: int, close: Sequence[Drift]) -> str:
    """All is well, and how well."""
    if not close:
        return f"{who}: all {count} golden images give exactly the right input"
    average, largest = max(drift.average for drift in close), max(drift.largest for drift in close)
    return (
        f"{who}: all {count} golden images give the right input, but for rounding in another library "
        f"({average:.2g} levels of 255 on average, {largest:.3g} at most)"
    )


def about_faults(who: str, prepared: Iterable[Prepared]) -> list[str]:
    """What the application gave that is no input at all."""
    found: dict[str, list[str]] = {}
    for one in prepared:
        if one.fault:
            found.setdefault(one.fault, []).append(one.image.name)
    return [f"{who} gives {fault} ({_listed(names)})" for fault, names in found.items()]


def about_changed(who: str, changed: Sequence[tuple[str, int, int]], count: int, labels: Sequence[str]) -> str:
    """What the drift does to the answers."""
    if not changed:
        return f"with the input of {who} the first answer is still the right one on all {count} golden images"
    name, right, now = changed[0]
    return (
        f"with the input of {who} the first answer changes on {len(changed)} of {count} golden images "
        f"({name}: {_label(labels, now)} instead of {_label(labels, right)})"
    )


def about_answers(found: Answers, names: Sequence[str], labels: Sequence[str], tolerance: float) -> list[str]:
    """Why the answers here are not those of the golden logits."""
    told = []
    if not found.largest <= tolerance:
        name = names[found.distances.index(found.largest)]
        told.append(
            f"the logits are {found.largest:.2g} (relative L2) away from the golden ones on {name}; "
            f"{tolerance:.2g} can be rounding"
        )
    for image, then, now in found.changed:
        told.append(f"{names[image]} is {_label(labels, now)} here and was {_label(labels, then)}")
    return told


def about_speed(speed: Speed, threads: int, certified_threads: int) -> str:
    """Latency here and there."""
    there = f", certified with {certified_threads}" if threads != certified_threads else ""
    with_threads = f"{threads} thread{'' if threads == 1 else 's'}{there}"
    figures = f"{speed.here_ms:.3g} ms for one image here, {speed.certified_ms:.3g} ms certified ({with_threads})"
    if not speed.is_slower:
        return figures
    return f"slower here than certified: {figures}; up to {speed.slow_ms:.3g} ms could be noise"


def _label(labels: Sequence[str], index: int) -> str:
    return repr(labels[index]) if index < len(labels) else f"class {index}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more"


def hints(instructions: Sequence[str], versions: Sequence[str]) -> Optional[str]:
    """What may be the reason that a machine answers otherwise."""
    reasons: list[Any] = []
    if instructions:
        reasons.append(f"this processor has no {', '.join(instructions)}, for which the int8 file was made")
    reasons += versions
    if not reasons:
        return None
    return f"a reason may be: {'; '.join(reasons)}. Export the model again on a machine like this one"
