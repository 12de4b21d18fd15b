"""The options that several commands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from vitlet.measure.budget import Budget
    from vitlet.measure.settings import MeasureSettings

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="timm:NAME or just NAME, hf:OWNER/NAME, deit:NAME, a checkpoint file, a folder, a bundle, or 'bundled'.",
    ),
]
OriginArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="timm:NAME or just NAME, hf:OWNER/NAME, deit:NAME, a checkpoint file, a folder, or 'bundled'.",
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        "-d",
        metavar="PATH",
        help="Images: a folder (with a sub-folder for each class, for accuracy), "
        "files or a quoted glob; may be given again. Or none: images are made, and no accuracy is told.",
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", "-t", min=1, help="Threads for inference (default: all physical cores).")
]
Json = Annotated[
    str | None, typer.Option("--json", metavar="PATH", help="Also write the result as JSON; '-' for standard output.")
]
RandomWeights = Annotated[
    bool, typer.Option("--random-weights", help="The architecture without a download, for speed work.")
]
Engines = Annotated[
    str | None, typer.Option("--engines", metavar="NAMES", help="Only these, separated by commas (default: all).")
]
Precisions = Annotated[
    str | None, typer.Option("--precisions", metavar="NAMES", help="Only these, separated by commas (default: all).")
]
Runs = Annotated[
    int | None, typer.Option("--runs", min=1, help="Timed runs of each variant, at least (default: 64 or more).")
]
Quick = Annotated[
    bool,
    typer.Option(
        "--quick",
        help="16 timed runs in one process each, and a shorter report, for people in a hurry; marked as such.",
    ),
]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Batch size for throughput (latency is always at batch 1).")]
Limit = Annotated[
    int, typer.Option("--limit", min=1, help="Use at most this many images, sampled evenly over the classes.")
]
MaxDrop = Annotated[
    float,
    typer.Option(
        "--max-drop",
        min=0,
        max=100,
        metavar="POINTS",
        help="Percentage points of top-1 accuracy that the best variant may lose (for labelled images).",
    ),
]
Promise = Annotated[
    float | None,
    typer.Option(
        "--max-drop",
        min=0,
        max=99.99,
        metavar="POINTS",
        help="Percentage points of top-1 accuracy that may be lost; there is a verdict on it (exit code 3: more is "
        "lost, 4: the images cannot tell).",
    ),
]
Confidence = Annotated[
    float,
    typer.Option(
        "--confidence",
        callback=lambda value: _share(value),
        metavar="PERCENT",
        help="How sure bounds and verdict are to be: 50 to 99.9999, or as a share, 0.5 to 0.999999.",
    ),
]
CertifyData = Annotated[
    list[str] | None,
    typer.Option(
        "--certify-data",
        metavar="PATH",
        help="Images for the verdict, which have no other part in it (default: 60 % of --data).",
    ),
]
CertifyLimit = Annotated[
    int, typer.Option("--certify-limit", min=1, help="Use at most this many images for the verdict.")
]
GoldenImages = Annotated[
    int,
    typer.Option(
        "--golden-images",
        min=0,
        max=16,
        help="Put so many of your images into the bundle, for it to test itself with (0: only a test card).",
    ),
]
MinAgreement = Annotated[
    float,
    typer.Option(
        "--min-agreement",
        min=0,
        max=100,
        metavar="PERCENT",
        help="Images on which the best variant must answer as the original does (for unlabelled images).",
    ),
]
MaxLatency = Annotated[
    float | None,
    typer.Option("--max-latency-ms", min=1e-6, metavar="MS", help="Longest median time for one image."),
]
MinSpeedup = Annotated[
    float | None,
    typer.Option("--min-speedup", min=1e-6, metavar="TIMES", help="How many times as fast as the original, at least."),
]
MaxSize = Annotated[
    float | None, typer.Option("--max-size-mb", min=1e-6, metavar="MB", help="Largest model file (1 MB = 10^6 bytes).")
]
MaxMemory = Annotated[
    float | None,
    typer.Option("--max-memory-mb", min=1e-6, metavar="MB", help="Most memory that the model may take while it runs."),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        "--time-limit", min=0.1, metavar="MINUTES", help="Search for about so long; what has been found then must do."
    ),
]
Exhaustive = Annotated[
    bool, typer.Option("--exhaustive", help="Measure every variant in full, however unpromising, instead of searching.")
]
Calibration = Annotated[
    list[str] | None,
    typer.Option(
        "--calibration",
        metavar="PATH",
        help="Images that static quantization learns its ranges from (default: some of --data, set aside).",
    ),
]
DeviceName = Annotated[
    Literal["cpu", "cuda"], typer.Option("--device", help="Where to run: torch, inductor and torchao also take cuda.")
]
Explain = Annotated[
    bool, typer.Option("--explain", help="Also print what each runtime really did: operators, arithmetic, fusions.")
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The bundle to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the bundle that is there.")]
NoCheck = Annotated[
    bool, typer.Option("--no-check", help="Go on even if the results differ from the source library's.")
]


def _share(value: float) -> float:
    """95 or 0.95 -> 0.95."""
    share = value / 100 if value >= 1 else value
    if not 0.5 <= share <= 0.999999:
        raise typer.BadParameter(f"{value:g} is neither 50 to 99.9999 per cent nor a share of 0.5 to 0.999999")
    return share


def names(value: str | None) -> list[str]:
    """'a, b' -> ['a', 'b']; nothing or 'all' -> []."""
    found = [name.strip() for name in (value or "").split(",") if name.strip()]
    return [] if found == ["all"] else found


def budget(latency_ms: float | None, speedup: float | None, size_mb: float | None, memory_mb: float | None) -> Budget:
    """The limits on speed, size and memory, from what was typed."""
    from vitlet.measure.budget import Budget

    size, memory = (None if megabytes is None else round(megabytes * 1e6) for megabytes in (size_mb, memory_mb))
    return Budget(latency_ms, speedup, size, memory)


def settings(
    threads: int | None, runs: int | None = None, batch: int = 8, quick: bool = False, explain: bool = False
) -> MeasureSettings:
    """How to measure, from what was typed."""
    from vitlet.measure.environment import default_threads
    from vitlet.measure.settings import MeasureSettings

    return MeasureSettings(
        threads or default_threads(), runs, throughput_batch=batch, quick=quick, explain=explain or None
    )
