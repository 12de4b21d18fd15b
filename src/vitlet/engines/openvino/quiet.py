"""Importing and calling OpenVINO and NNCF so that they send nothing, write nothing at home and print nothing.

``import openvino`` alone starts a telemetry session (a web request, and files in ``~/intel``) unless
the package ``openvino_telemetry`` is missing; so it is made to look missing while vitlet imports.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from vitlet.records import Availability

_TELEMETRY = "openvino_telemetry"
_SENDING = ("init", "send_event", "send_error", "send_stack_trace", "start_session", "end_session")
#: Both converters import it only to ask whether a model is one of its own; it takes seconds and changes torch.
_NNCF_TORCH = "nncf.torch"
_importing = threading.RLock()


def installed(*packages: str) -> Availability:
    """Whether these packages are installed; looks for them without importing them."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        names = {"openvino": "OpenVINO", "nncf": "NNCF"}
        listed = " and ".join(names.get(name, name) for name in missing)
        verb = "is" if len(missing) == 1 else "are"
        return Availability(False, f"{listed} {verb} not installed; install with: pip install 'vitlet[openvino]'")
    return Availability(True)


@cache
def openvino() -> Any:
    """The module ``openvino``, imported without telemetry. (A process that had imported it before
    keeps what it has, and ``without_telemetry`` holds that back.)
    """
    with without_telemetry():
        return import_module("openvino")


@cache
def nncf() -> Any:
    """The module ``nncf``, imported without telemetry; the class of new loggers, which NNCF replaces
    for the whole process, is put back.
    """
    openvino()
    kind = logging.getLoggerClass()
    try:
        with without_telemetry(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module("nncf")
    finally:
        logging.setLoggerClass(kind)


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Let nothing be sent inside the ``with`` block, whoever imported the telemetry package before."""
    with _importing:
        kind = getattr(sys.modules.get(_TELEMETRY), "Telemetry", None)
        kept = {name: kind.__dict__[name] for name in _SENDING if name in getattr(kind, "__dict__", {})}
        for name in kept:
            setattr(kind, name, _nothing)
        try:
            with _hidden(_TELEMETRY):
                yield
        finally:
            for name, method in kept.items():
                setattr(kind, name, method)


@contextmanager
def without_nncf_torch() -> Iterator[None]:
    """Keep the part of NNCF that is for PyTorch from being imported inside the ``with`` block, unless it is already."""
    with _importing:
        if _NNCF_TORCH in sys.modules:
            yield
            return
        with _hidden(_NNCF_TORCH):
            yield


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Make importing this module fail as if it were not installed."""
    loaded = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if loaded is None:
            del sys.modules[name]
        else:
            sys.modules[name] = loaded


@contextmanager
def silenced() -> Iterator[None]:
    """Hold back warnings, log lines and progress bars of the converters, and their telemetry."""
    logger = logging.getLogger("nncf")
    level = logger.level
    with (
        without_telemetry(),
        without_nncf_torch(),
        warnings.catch_warnings(),
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


def last_line(error: BaseException, most: int = 200) -> str:
    """The line of OpenVINO's messages that says something: the last, after the places in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1].rstrip(" .!") if lines else type(error).__name__
    return last if len(last) <= most else last[: most - 3] + "..."


def _nothing(*_: object, **__: object) -> None:
    """Stand in for a method that would send something."""
