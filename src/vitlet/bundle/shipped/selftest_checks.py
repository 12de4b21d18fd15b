"""The checks of a bundle in their order: files, preprocessing, the application's own preprocessing, answers, speed.

Each gives a ``Finding``. ``python selftest.py`` and ``vitlet verify`` both run these, and nothing else judges a bundle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from . import selftest_numerics as numerics
from . import selftest_sentences as say
from .selftest_application import (
    Prepare,
    Prepared,
    Unusable,
    apply,
    as_batch,
    changed_answers,
    drift_of,
    read_tensor,
)
from .selftest_drift import Cause, Drift, explain, find_drift
from .selftest_files import MANIFEST, Files, Refused, check_files, check_manifest, model_files
from .selftest_golden import Golden, read_golden

#: What can be wrong, the gravest first, and the exit code that says so (1 is an error, 2 wrong usage).
EXIT_CODES = {"damaged": 10, "preprocessing drift": 11, "numeric drift": 12, "slower": 13, "not tested": 14}
#: Relative L2 distance below which logits are the same but for the order of additions.
SAME_LOGITS = 1e-4


class NotHere(Exception):
    """The model cannot be run here; the text says why and what to do."""


@dataclass(frozen=True)
class Finding:
    """``outcome`` is "ok", or a key of ``EXIT_CODES``; a finding "slower" that is no ``failure`` is a warning."""

    check: str
    outcome: str
    sentences: tuple[str, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)
    failure: bool = True


@dataclass(frozen=True)
class Report:
    """All findings, in the order in which they were made."""

    findings: tuple[Finding, ...]

    @property
    def outcome(self) -> str:
        """The gravest; "ok" if nothing is wrong."""
        found = {finding.outcome for finding in self.findings if finding.failure}
        return next((outcome for outcome in EXIT_CODES if outcome in found), "ok")

    @property
    def exit_code(self) -> int:
        return EXIT_CODES.get(self.outcome, 0)


@dataclass(frozen=True)
class Tools:
    """What the checks are done with: ``load`` prepares an image file by a spec, float32 [1, 3, height, width],
    ``read`` decodes one, ``checked_spec`` refuses a spec that cannot be followed (ValueError), and ``open_model``
    gives what answers (by the manifest, with a number of threads) or raises ``NotHere``; ``usable_threads`` is how many
    of so many threads this process may use.
    """

    load: Callable[..., np.ndarray]
    read: Callable[..., Any]
    checked_spec: Callable[[Any], Any]
    open_model: Callable[[Mapping[str, Any], int], numerics.Answer]
    usable_threads: Callable[[int], int]


@dataclass(frozen=True)
class Wanted:
    """``prepare``: the application's function, or ``tensor`` a file that it wrote for the image ``tensor_of``. With
    ``most_ms`` a slower model is a failure (0: slower than certified). ``threads`` 0: as certified.
    """

    prepare: Optional[Prepare] = None
    tensor: Optional[Path] = None
    tensor_of: str = ""
    run: bool = True
    timed: bool = True
    most_ms: Optional[float] = None
    threads: int = 0


def examine(folder: Path, tools: Tools, wanted: Wanted) -> Report:
    """Run all checks that make sense of the bundle in ``folder``.

    Raises:
        Refused: it is no bundle, or one that was made to do harm.
        Unusable: the application's function or tensor cannot be had, or what is asked for does not go together.
    """
    _check_wanted(wanted)
    files = check_files(folder)
    findings = [_about_files(files)]
    if files.manifest is None:
        return Report(tuple(findings))
    try:
        manifest, golden = check_manifest(files), read_golden(files)
    except Refused:
        if MANIFEST in files.damaged:  # no wonder
            return Report(tuple(findings))
        raise
    if golden is None:
        told = "there are no golden images in this bundle (an older vitlet wrote it), so only its files were checked"
        return Report((*findings, Finding("preprocessing", "not tested", (told,))))
    own = _about_preprocessing(manifest, golden, tools)
    findings.append(own)
    prepared = _prepared(golden, wanted)
    if prepared:
        findings.append(_about_application(manifest, golden, tools, prepared, own.outcome == "ok"))
    if wanted.run:
        findings += _about_model(files, manifest, golden, tools, wanted, prepared)
    return Report(tuple(findings))


def _about_files(files: Files) -> Finding:
    strangers = f"; not the bundle's, and not looked at: {', '.join(files.strangers)}" if files.strangers else ""
    figures = {"damaged": sorted(files.damaged), "files": files.count}
    if files.faults:
        return Finding("files", "damaged", (*files.faults, "copy the bundle again from where it was made"), figures)
    return Finding("files", "ok", (f"all {files.count} files are as they were written{strangers}",), figures)


def _about_preprocessing(manifest: Mapping[str, Any], golden: Golden, tools: Tools) -> Finding:
    """Prepare each golden image as the manifest says; if that is wrong, tell whether the manifest is or the code."""
    name = "preprocessing"
    try:
        spec = tools.checked_spec(manifest.get("image_spec"))
        if (spec["height"], spec["width"]) != (manifest["model"]["height"], manifest["model"]["width"]):
            raise ValueError("image_spec and the model file differ in height or width")
    except ValueError as error:
        return Finding(name, "preprocessing drift", (f"{MANIFEST} cannot be followed: {error}",))
    if not golden.images:
        return Finding(name, "not tested", ("no golden image is whole, so preprocessing could not be checked",))
    in_manifest, in_code = {}, {}
    for image in golden.images:
        try:
            given = tools.load(image.path, spec)[0]
            upright, stored = tools.read(image.path), tools.read(image.path, upright=False)
        except Exception as error:  # the code may have been changed
            return Finding(name, "preprocessing drift", (f"{image.name} cannot be prepared: {error}",))
        if given.shape == image.input.shape and np.array_equal(given, image.input):
            continue
        causes = explain(image.input, spec, upright, stored)
        if causes:
            in_manifest[image.name] = causes
        elif given.shape != image.input.shape:
            return Finding(name, "preprocessing drift", (f"preprocess.py gives {list(given.shape)} for {image.name}",))
        else:
            drift = find_drift(given, image.input, spec, upright, stored)
            if drift is not None:
                in_code[image.name] = drift
    told = [say.about_manifest(cause, where) for cause, where in say.grouped(in_manifest.items())]
    told += say.about_drifts("preprocess.py", in_code)
    if told:
        by_manifest = {"in_manifest": {name: _causes(causes) for name, causes in in_manifest.items()}}
        return Finding(name, "preprocessing drift", tuple(told), {**_figures(in_code), **by_manifest})
    return Finding(name, "ok", (say.about_equal(MANIFEST, len(golden.images), list(in_code.values())),))


def _check_wanted(wanted: Wanted) -> None:
    if wanted.prepare is not None and wanted.tensor is not None:
        raise Unusable("--preprocess and --tensor are tested one at a time; leave out one of them")
    if wanted.tensor_of and wanted.tensor is None:
        raise Unusable("--image says which golden image --tensor is of; give --tensor, too")
    if wanted.most_ms is not None and not (wanted.timed and wanted.run):
        omitted = "--no-speed" if wanted.run else "--no-run"
        raise Unusable(f"--max-latency-ms is about speed, which {omitted} leaves out; leave out one of them")


def _prepared(golden: Golden, wanted: Wanted) -> tuple[Prepared, ...]:
    if wanted.prepare is not None:
        return apply(wanted.prepare, golden.images)
    if wanted.tensor is None:
        return ()
    if not golden.images:
        raise Unusable("no golden image is whole, so there is nothing to hold --tensor against")
    named = [image for image in golden.images if image.name == wanted.tensor_of] if wanted.tensor_of else golden.images
    if not named:
        names = ", ".join(image.name for image in golden.images)
        raise Unusable(f"--image {wanted.tensor_of} is no golden image; there are: {names}")
    return read_tensor(wanted.tensor, named[0])


def _about_application(
    manifest: Mapping[str, Any], golden: Golden, tools: Tools, prepared: Sequence[Prepared], is_sound: bool
) -> Finding:
    name, who = "application", "the application"
    if not is_sound:
        return Finding(name, "not tested", ("the bundle's own preprocessing is wrong; put that right first",))
    told = say.about_faults(who, prepared)
    drifts = {}
    for one in prepared:
        drift = drift_of(one, manifest["image_spec"], tools.read)
        if drift is not None:
            drifts[one.image.name] = drift
    told += say.about_drifts(who, drifts)
    if told:
        return Finding(name, "preprocessing drift", tuple(told), _figures(drifts))
    return Finding(name, "ok", (say.about_equal(who, len(prepared), list(drifts.values())),), _figures(drifts))


def _figures(drifts: Mapping[str, Drift]) -> Mapping[str, Any]:
    images = {
        name: {
            "largest_levels": drift.largest,
            "average_levels": drift.average,
            "causes": _causes(drift.causes),
        }
        for name, drift in drifts.items()
    }
    return {"images": images}


def _causes(causes: Sequence[Cause]) -> list[dict[str, str]]:
    return [{"what": cause.what, "found": cause.found, "wanted": cause.wanted} for cause in causes]


def _about_model(
    files: Files,
    manifest: Mapping[str, Any],
    golden: Golden,
    tools: Tools,
    wanted: Wanted,
    prepared: Sequence[Prepared],
) -> list[Finding]:
    broken = sorted(model_files(manifest) & files.damaged)
    if broken:
        return [Finding("answers", "not tested", (f"{', '.join(broken)} is damaged, so the model was not run",))]
    if golden.logits is None or not golden.images:
        return [Finding("answers", "not tested", ("the golden inputs or logits are damaged; the model was not run",))]
    threads = tools.usable_threads(wanted.threads or manifest["recipe"]["threads"])
    try:
        answer = tools.open_model(manifest, threads)
        here = np.concatenate([_logits(answer, golden, row) for row in golden.inputs])
    except NotHere as error:
        return [Finding("answers", "not tested", (str(error),))]
    findings = [_about_answers(here, golden, manifest)]
    drifted = [one for one in prepared if one.tensor is not None]
    if drifted:
        changed = changed_answers(drifted, golden, answer)
        told = say.about_changed("the application", changed, len(drifted), manifest["labels"])
        findings.append(Finding("effect", "ok", (told,), {"changed": len(changed), "of": len(drifted)}))
    if wanted.timed:
        findings.append(_about_speed(answer, golden, manifest, threads, wanted.most_ms))
    return findings


def _logits(answer: numerics.Answer, golden: Golden, row: int) -> np.ndarray:
    """float32 [1, classes]"""
    assert golden.logits is not None
    try:
        logits = answer(as_batch(golden.inputs[row].input))
    except NotHere:
        raise
    except Exception as error:  # each runtime has its own family of exceptions
        raise NotHere(f"the runtime fails on {golden.inputs[row].name}: {error}") from error
    if logits.shape != (1, golden.logits.shape[1]):
        raise NotHere(f"the model gives {list(logits.shape)} logits and not {[1, golden.logits.shape[1]]}")
    return logits


def _about_answers(here: np.ndarray, golden: Golden, manifest: Mapping[str, Any]) -> Finding:
    assert golden.logits is not None
    rows = list(golden.inputs)
    names, right = [golden.inputs[row].name for row in rows], golden.logits[rows]
    original = None if golden.original_logits is None else golden.original_logits[rows]
    found = numerics.compare_answers(here, right, original, golden.tolerance)
    versions = _versions(manifest)
    figures = {
        "distance": found.largest if math.isfinite(found.largest) else None,
        "tolerance": golden.tolerance,
        "changed": len(found.changed),
        "distance_from_original": found.from_original,
    }
    told = say.about_answers(found, names, manifest["labels"], golden.tolerance)
    if told:
        hint = say.hints(numerics.missing_instructions(manifest["environment"]), versions)
        return Finding("answers", "numeric drift", (*told, *([hint] if hint else [])), figures)
    exact = f"within {found.largest:.1g} of the golden ones (tolerance {golden.tolerance:.2g})"
    same = "the same" if found.largest <= SAME_LOGITS else exact
    told = [f"the model answers as it did: the same first class on all {len(rows)} golden inputs, logits {same}"]
    if found.near_ties:
        ties = "two classes as good as equal changed places on " + ", ".join(names[i] for i, _, _ in found.near_ties)
        told = [f"the model answers as it did: logits {same}; {ties}"]
    told += [f"another version: {version}" for version in versions]
    return Finding("answers", "ok", tuple(told), figures)


def _versions(manifest: Mapping[str, Any]) -> list[str]:
    engine = str(manifest["model"]["engine"])
    package = {"litert": "ai-edge-litert", "mobile": "torch", "lite": "torch", "torchscript": "torch"}.get(
        engine, engine
    )
    return numerics.other_versions(manifest["environment"], (package, "numpy", "pillow"))


def _about_speed(
    answer: numerics.Answer, golden: Golden, manifest: Mapping[str, Any], threads: int, most_ms: Optional[float]
) -> Finding:
    certified = numerics.certified_latency(manifest)
    here_ms, runs = numerics.measure_speed(answer, [as_batch(image.input) for image in golden.inputs.values()])
    figures = {"here_ms": here_ms, "runs": runs, "threads": threads}
    if certified is None:
        told, is_slower, limit_ms = f"{here_ms:.3g} ms for one image here; it was never timed", False, math.inf
    else:
        speed = numerics.Speed(here_ms, *certified, runs)
        told, is_slower, limit_ms = (
            say.about_speed(speed, threads, int(manifest["recipe"]["threads"])),
            speed.is_slower,
            speed.slow_ms,
        )
        figures |= {"certified_ms": speed.certified_ms, "slower_from_ms": speed.slow_ms}
    if most_ms is not None and here_ms > (most_ms or limit_ms):
        asked = f"; {most_ms:g} ms are allowed" if most_ms else ""
        return Finding("speed", "slower", (told + asked,), figures)
    return Finding("speed", "slower" if is_slower else "ok", (told,), figures, failure=not is_slower)
