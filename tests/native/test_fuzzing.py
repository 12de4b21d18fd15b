"""Any bytes as a model file: the kept files first, then new ones for some seconds."""

from __future__ import annotations

import re
import shutil

from .conftest import NATIVE, QUICK, missing, run

SECONDS = 20
CORPUS = NATIVE / "fuzz" / "corpus"


def test_loader_survives_any_file(build, tmp_path):
    if not shutil.which("clang++"):
        missing("clang++")
    options = ["-DCMAKE_CXX_COMPILER=clang++", "-DVITLET_FUZZ=ON", "-DVITLET_SANITIZE=address", *QUICK]
    target = build("fuzz", "vitlet_fuzz_load", *options) / "vitlet_fuzz_load"
    limits = ["-max_len=16384", "-timeout=10", "-rss_limit_mb=2048", f"-artifact_prefix={tmp_path}/"]
    kept = sorted(CORPUS.iterdir())
    assert kept
    assert sum(path.stat().st_size for path in kept) < 300_000
    run(target, *limits, *kept)
    (tmp_path / "new").mkdir()
    output = run(target, *limits, f"-max_total_time={SECONDS}", tmp_path / "new", CORPUS)
    executions = re.search(r"Done (\d+) runs", output)
    # Some hundred a second are usual: far fewer would mean that a file is slow.
    assert int(executions.group(1)) > 50 * SECONDS
