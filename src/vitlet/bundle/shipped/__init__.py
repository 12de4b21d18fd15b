"""The files that are copied into every bundle as they stand, so that it can test and feed itself without vitlet.

They need Python 3.9, numpy, Pillow and the runtime of the model file. ``selftest.py`` imports the files beside it as a
package; here they are one, and what ``vitlet verify`` runs. ``FILES`` names them.
"""

from __future__ import annotations

FILES = (
    "preprocess.py",
    "runtime.py",
    "selftest.py",
    "selftest_application.py",
    "selftest_checks.py",
    "selftest_drift.py",
    "selftest_files.py",
    "selftest_golden.py",
    "selftest_numerics.py",
    "selftest_sentences.py",
    "selftest_ways.py",
)
