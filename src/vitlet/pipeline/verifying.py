"""A bundle tested on the machine where it landed."""

from __future__ import annotations

from pathlib import Path

from vitlet.bundle.read import read_bundle
from vitlet.bundle.shipped.runtime import usable_threads
from vitlet.measure.environment import default_threads, environment
from vitlet.results import Verification


def verify(
    bundle: str | Path,
    *,
    preprocess_with: str = "",
    tensor: Path | None = None,
    tensor_of: str = "",
    threads: int | None = None,
    timed: bool = True,
    max_latency_ms: float | None = None,
) -> Verification:
    """Test a bundle on this machine against its golden files, as ``python BUNDLE/selftest.py`` does without vitlet.

    Arguments and errors as ``vitlet.bundle.verify.verify_bundle``; ``max_latency_ms`` 0 is the certified latency.
    """
    from vitlet.bundle.verify import verify_bundle

    report = verify_bundle(
        Path(bundle),
        preprocess_with=preprocess_with,
        tensor=tensor,
        tensor_of=tensor_of,
        threads=threads,
        timed=timed,
        most_ms=max_latency_ms,
    )
    is_whole = all(finding.outcome == "ok" for finding in report.findings if finding.check == "files")
    manifest = read_bundle(Path(bundle)).manifest if is_whole else None
    certified_threads = default_threads() if manifest is None else manifest.recipe.threads
    used = usable_threads(threads or certified_threads)
    return Verification(report, environment(used), None if manifest is None else manifest.certificate)
