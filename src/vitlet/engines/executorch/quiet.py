"""Keeping ExecuTorch's own chatter from a user's terminal."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from vitlet.engines.quiet import without_stderr


@contextmanager
def without_runtime_log() -> Iterator[None]:
    """Send standard error to nowhere inside the ``with`` block.

    ExecuTorch's runtime writes its log there from C++, with no setting against it: four lines when it
    is imported, one whenever the number of threads changes, some for a file that it refuses. Its
    Python binding sends some of them to ``sys.stderr``, which in a notebook is no file descriptor.
    """
    with without_stderr(), contextlib.redirect_stderr(io.StringIO()):
        yield


@contextmanager
def without_exporter_notices() -> Iterator[None]:
    """Keep back the exporter's warnings and logging; take away the log handler that it installs and the
    environment variables that PyTorch's compiler sets.
    """
    root, environment = logging.getLogger(), set(os.environ)
    handlers, level, disabled = list(root.handlers), root.level, logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        for handler in set(root.handlers) - set(handlers):
            root.removeHandler(handler)
        root.setLevel(level)
        for name in set(os.environ) - environment:
            del os.environ[name]
