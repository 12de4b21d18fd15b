"""Test a bundle on this machine, with the checks that it brings along, but vitlet's own copy of them.

Nothing in the bundle is run but its model, through vitlet's engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from vitlet.bundle.read import read_bundle
from vitlet.bundle.shipped import preprocess
from vitlet.bundle.shipped.runtime import usable_threads
from vitlet.bundle.shipped.selftest_application import Unusable, load_function
from vitlet.bundle.shipped.selftest_checks import NotHere, Report, Tools, Wanted, examine
from vitlet.bundle.shipped.selftest_files import Refused
from vitlet.engines import engine
from vitlet.errors import BundleInvalid, InvalidValue, VitletError


def verify_bundle(
    folder: Path,
    *,
    preprocess_with: str = "",
    tensor: Path | None = None,
    tensor_of: str = "",
    threads: int | None = None,
    timed: bool = True,
    most_ms: float | None = None,
) -> Report:
    """Hold the bundle against its golden files: files, preprocessing, answers and (if ``timed``) speed.

    ``preprocess_with`` ("FILE.py:FUNCTION") is an application's own preprocessing, ``tensor`` a file of what an
    application made of the golden image ``tensor_of`` (the test card, if empty). Being slower than ``most_ms`` (0:
    than certified) is a failure; ``None``: being slower is a warning.

    Raises:
        BundleInvalid: it is no bundle, or one that was made to do harm.
        InvalidValue: there is no such function or tensor, or it fails.
    """
    with ExitStack() as sessions:

        def open_model(_: Mapping[str, Any], threads: int) -> Callable[[np.ndarray], np.ndarray]:
            try:
                artifact = read_bundle(folder).artifact
                session = engine(artifact.engine).open(artifact, threads=threads)
            except VitletError as error:
                raise NotHere(str(error)) from error
            sessions.callback(session.close)
            return session.run

        tools = Tools(preprocess.load, preprocess.read, preprocess.checked_spec, open_model, usable_threads)
        try:
            wanted = Wanted(
                prepare=load_function(preprocess_with) if preprocess_with else None,
                tensor=tensor,
                tensor_of=tensor_of,
                timed=timed,
                most_ms=most_ms,
                threads=threads or 0,
            )
            return examine(folder, tools, wanted)
        except Refused as error:
            raise BundleInvalid(str(error)) from error
        except Unusable as error:
            raise InvalidValue(str(error)) from error
