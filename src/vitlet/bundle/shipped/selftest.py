"""Test this bundle on the machine at hand: python selftest.py

Needs Python 3.9, numpy, Pillow and the model's own runtime; nothing of vitlet. It tells a damaged file from wrong
preprocessing, from a runtime that computes something else, and from a machine that is slower than the certified one.

Your own preprocessing is tested with --preprocess app.py:prepare, a function that takes the path of an image and
returns what your application feeds to the model; one in another language with --tensor FILE, what it made of
golden-card.png.

exit codes: 0 all is well; 1 it could not be tested; 2 wrong usage; 10 a file is damaged; 11 preprocessing is wrong;
12 the answers are wrong; 13 slower than allowed; 14 the model cannot be run here; 130 interrupted
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from .selftest_checks import Report

_FOLDER = Path(__file__).parent
#: The name under which the files beside this one are imported, which takes no name from an application's modules.
_PACKAGE = "vitlet_bundle"


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the tests, print what they found, and return the exit code."""
    asked = _parser().parse_args(arguments)
    sys.dont_write_bytecode = True  # else a __pycache__ appears in the bundle
    try:
        package = types.ModuleType(_PACKAGE)
        package.__path__ = [str(_FOLDER)]
        sys.modules[_PACKAGE] = package
        files, checks = _part("selftest_files"), _part("selftest_checks")
        application, tools = _part("selftest_application"), _tools(checks)
    except Exception as error:  # whatever a damaged file raises
        return _failed(f"the self test cannot run ({type(error).__name__}: {error}): {_damage()}", 10)
    try:
        prepare = None if asked.preprocess is None else application.load_function(asked.preprocess)
        wanted = checks.Wanted(
            prepare=prepare,
            tensor=asked.tensor,
            tensor_of=asked.image,
            run=not asked.no_run,
            timed=not asked.no_speed,
            most_ms=asked.max_latency_ms,
            threads=asked.threads,
        )
        report = checks.examine(_FOLDER, tools, wanted)
    except (files.Refused, application.Unusable) as error:
        return _failed(str(error), 1)
    except KeyboardInterrupt:
        return _failed("interrupted", 130)
    if asked.json:
        print(json.dumps(document(report), indent=2, allow_nan=False))
    else:
        print("\n".join(lines(report, _part("selftest_sentences").printable)))
    return int(report.exit_code)


def _part(name: str) -> Any:
    return importlib.import_module(f"{_PACKAGE}.{name}")


def _damage() -> str:
    """Which file it may be that keeps the others from being imported."""
    try:
        faults = _part("selftest_files").check_files(_FOLDER).faults
    except Exception:
        return "copy the bundle again"
    return "; ".join(faults) or "is numpy or Pillow missing? pip install numpy pillow"


def _tools(checks: Any) -> Any:
    preprocess, runtime = _part("preprocess"), _part("runtime")

    def open_model(manifest: Mapping[str, Any], threads: int) -> Any:
        try:
            return runtime.open_file(_FOLDER, manifest, threads)
        except runtime.CannotRun as error:
            raise checks.NotHere(str(error)) from error

    return checks.Tools(preprocess.load, preprocess.read, preprocess.checked_spec, open_model, runtime.usable_threads)


def lines(report: Report, printable: Any) -> list[str]:
    """The report for a person."""
    marks = {"ok": "ok", "not tested": "NOT TESTED"}
    told = []
    for finding in report.findings:
        mark = marks.get(finding.outcome, "warning" if not finding.failure else finding.outcome.upper())
        told.append(f"{finding.check}: {mark}")
        told += [f"  {printable(sentence)}" for sentence in finding.sentences]
    return [*told, "ALL IS WELL" if report.outcome == "ok" else report.outcome.upper()]


def document(report: Report) -> dict[str, Any]:
    """The report as JSON: ``docs/json.md`` of vitlet describes it."""
    checks = [
        {
            "check": finding.check,
            "outcome": finding.outcome,
            "failure": finding.failure and finding.outcome != "ok",
            "sentences": list(finding.sentences),
            **finding.figures,
        }
        for finding in report.findings
    ]
    return {"schema_version": 1, "command": "selftest", "outcome": report.outcome, "checks": checks}


def _failed(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _latency(text: str) -> float:
    if text == "certified":
        return 0.0
    value = float(text)
    if not 0 < value < 1e9:
        raise ValueError
    return value


def _threads(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1024:
        raise ValueError
    return value


def _parser() -> argparse.ArgumentParser:
    about, _, codes = (__doc__ or "").partition("\n\nexit codes: ")
    parser = argparse.ArgumentParser(
        description=about, epilog=f"exit codes: {codes}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    own = parser.add_mutually_exclusive_group()
    own.add_argument("--preprocess", metavar="FILE.py:FUNCTION", help="your application's function, to be tested")
    own.add_argument(
        "--tensor",
        type=Path,
        metavar="FILE",
        help="what your application made of a golden image: .npy, or bare float32",
    )
    parser.add_argument("--image", default="", metavar="NAME", help="which golden image --tensor is of")
    parser.add_argument("--threads", type=_threads, default=0, help="threads to run with (default: as certified)")
    parser.add_argument(
        "--max-latency-ms",
        type=_latency,
        metavar="MS",
        help="fail if one image takes longer; 'certified' fails if it is slower than certified",
    )
    parser.add_argument("--no-speed", action="store_true", help="do not measure speed")
    parser.add_argument("--no-run", action="store_true", help="do not run the model: files and preprocessing only")
    parser.add_argument("--json", action="store_true", help="print JSON instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
