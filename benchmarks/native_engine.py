"""How fast is the native engine beside the others, and beside what the processor can do?

Exports a model with random weights to the native engine and to the fastest variants of the others, and lets them take
turns (``turns.py``), together with a loop of nothing but ``vpdpbusd`` (``vnni_peak.cpp``), whose speed is the limit: it
takes a processor with AVX-512 VNNI.

    python benchmarks/native_engine.py --out benchmarks/results/native-engine.json

A ratio above 1 says that the native engine is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from turns import Side, in_turns, interval

from vitlet.data.calibration import Calibration
from vitlet.engines import engine
from vitlet.engines.native.session import NativeSession
from vitlet.engines.variants import export_variants
from vitlet.measure.cores import choose_cpus
from vitlet.measure.environment import environment
from vitlet.pipeline import load
from vitlet.records import Artifact, Precision, VitArchitecture, to_json
from vitlet.whole_file import put_whole

MODELS = ("deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224")
NATIVE = ("native", "int8-dynamic", "")
RIVALS = (
    ("openvino", "int8-static-bf16", ""),
    ("openvino", "int8-static", ""),
    ("onnxruntime", "int8-static", ""),
    ("onnxruntime", "int8-dynamic", ""),
    ("torchscript", "int8-dynamic", "x86"),
    ("inductor", "int8-static", ""),
    ("executorch", "int8-static", ""),
    ("executorch", "int8-dynamic", ""),
    ("litert", "int8-dynamic", ""),
)
#: What the native engine on plain AVX2 is held against.
FLOATS = (("openvino", "fp32", ""), ("onnxruntime", "fp32", ""))
LINEARS = ("embed", "qkv", "projection", "up", "down", "head")


class Peak:
    """``vnni_peak.cpp`` as one that takes turns: a slice is its GOP/s."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.program = folder / f"peak-{threads}"
        self.threads = threads
        self.cpus = choose_cpus(threads)
        source = Path(__file__).with_name("vnni_peak.cpp")
        flags = ["-O2", "-mavx512f", "-mavx512bw", "-mavx512vnni", "-pthread"]
        subprocess.run(["c++", *flags, str(source), "-o", str(self.program)], check=True)

    def slice(self) -> float:
        done = subprocess.run(
            [self.program, str(self.threads)],
            check=True,
            capture_output=True,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, self.cpus or os.sched_getaffinity(0)),
        )
        time.sleep(0.05)
        return float(done.stdout)

    def close(self) -> None:
        pass


def operations(a: VitArchitecture) -> float:
    """Operations of one image, a multiplication and an addition being two: all products of the model."""
    rows, columns = a.grid
    tokens = a.prefix_tokens + rows * columns
    block = tokens * a.width * (4 * a.width + 2 * a.mlp_width) + 2 * tokens * tokens * a.width
    return 2.0 * (a.depth * block + rows * columns * 3 * a.patch**2 * a.width + a.width * a.classes)


def operations_done(a: VitArchitecture) -> float:
    """Those that the native engine does: of the last block, only keys and values of the tokens that no head reads."""
    tokens = a.prefix_tokens + a.grid[0] * a.grid[1]
    unread = tokens - (1 + int(a.distillation_token)) if a.pool == "token" else 0
    per_token = a.width * (2 * a.width + 2 * a.mlp_width) + 2 * tokens * a.width
    return operations(a) - 2.0 * unread * per_token


@contextmanager
def instruction_set(name: str) -> Iterator[None]:
    """VITLET_ISA for the processes that are started meanwhile."""
    before = os.environ.get("VITLET_ISA")
    os.environ["VITLET_ISA"] = name
    try:
        yield
    finally:
        del os.environ["VITLET_ISA"]
        if before is not None:
            os.environ["VITLET_ISA"] = before


def shares(artifact: Artifact, threads: int) -> dict[str, float]:
    """The share of each part in the time of the threads, by the library's own clock."""
    image = np.random.default_rng(0).standard_normal((1, 3, artifact.height, artifact.width)).astype(np.float32)
    session = NativeSession(artifact, threads)
    for _ in range(5):
        session.run(image)
    spent = session.phases_ms(image, runs=40)
    session.close()
    parts = {
        "linear": sum(spent[name] for name in LINEARS),
        "attention": spent["attention"],
        "softmax": spent["softmax"],
        "LayerNorm": spent["norm"],
        "GELU": spent["activation"],
        "rest": spent["epilogue"] + spent["quantize"] + spent["wait"],
    }
    total = sum(parts.values())
    return {name: time_ms / total for name, time_ms in parts.items()}


def compared(turns: dict[str, list[float]], own: str) -> dict[str, dict[str, object]]:
    """The time of each over that of ``own``, turn by turn."""
    found = {}
    for name, times in turns.items():
        ratios = np.array(times) / np.array(turns[own])
        low, high = interval(ratios)
        found[name] = {"ms": float(np.median(times)), "ratio": float(np.median(ratios)), "low": low, "high": high}
    return found


def measured(
    artifacts: dict[str, Artifact], folder: Path, threads: int, batch: int, rounds: int, *, with_peak: bool = True
) -> tuple[dict[str, list[float]], list[float]]:
    """The slices of each artifact, and of the peak, in turn."""
    sides: dict[str, object] = {}
    try:
        for name, artifact in artifacts.items():
            runs = 12 if batch == 1 else 3
            with instruction_set("avx2" if name == "native int8-dynamic on AVX2" else ""):
                sides[name] = Side(artifact, folder, threads, runs=runs, batch=batch)
        if with_peak:
            sides["peak"] = Peak(folder, threads)
        turns = dict(zip(sides, in_turns(list(sides.values()), rounds), strict=True))
    finally:
        for side in sides.values():
            side.close()
    return turns, turns.pop("peak", [])


def report(row: dict[str, object]) -> None:
    print(f"{row['model']}, threads {row['threads']}, batch {row['batch']}:", flush=True)
    for name, found in sorted(row["found"].items(), key=lambda item: item[1]["ms"]):
        print(f"  {name:32s} {found['ms']:8.2f} ms  {found['ratio']:.2f} ({found['low']:.2f} to {found['high']:.2f})")
    if "times_the_limit" in row:
        done = f"{row['times_the_limit_of_what_is_done']:.2f} times that of what the engine computes"
        print(f"  {row['times_the_limit']:.2f} times the limit of {row['peak_gops']:.0f} GOP/s, {done}")
        print("  " + ", ".join(f"{name} {share:.0%}" for name, share in row["shares"].items()), flush=True)


def exports(model: str, folder: Path) -> tuple[VitArchitecture, dict[str, Artifact]]:
    """The model's architecture, and by name each variant that can be had here."""
    classifier = load(model, random_weights=True)
    calibration = Calibration(classifier.image_spec, random_count=32, seed=1)
    pairs = [(engine(name), Precision(precision, kernels)) for name, precision, kernels in (NATIVE, *RIVALS, *FLOATS)]
    exported = export_variants(
        classifier, pairs, folder, lambda step: print(step.detail, flush=True), calibration=calibration
    )
    for row in exported:
        if not isinstance(row, Artifact):
            print(f"{row.engine} {row.precision}: {row.reason}")
    return classifier.architecture, {f"{r.engine} {r.precision}": r for r in exported if isinstance(r, Artifact)}


def against_int8(
    a: VitArchitecture, artifacts: dict[str, Artifact], folder: Path, threads: int, batch: int, rounds: int
) -> dict[str, object]:
    """The native engine beside all other int8 variants, and beside the limit."""
    left_out = {f"{name} {precision}" for name, precision, _ in FLOATS} | {"torch fp32"}
    int8 = {name: artifact for name, artifact in artifacts.items() if name not in left_out}
    turns, peaks = measured(int8, folder, threads, batch, rounds)
    own = " ".join(NATIVE[:2])
    found = compared(turns, own)
    # Other work on the machine only slows the loop: its fastest turn is what the processor can do.
    peak = max(peaks)
    times = float(np.median(turns[own])) * peak * 1e6 / batch
    return {
        "found": found,
        "turns_ms": turns,
        "peak_turns_gops": peaks,
        "peak_gops": peak,
        "times_the_limit": times / operations(a),
        "times_the_limit_of_what_is_done": times / operations_done(a),
        "shares": shares(artifacts[own], threads),
    }


def on_avx2(artifacts: dict[str, Artifact], folder: Path, threads: int, rounds: int) -> dict[str, object]:
    """The native engine on AVX2 beside the others' fp32."""
    own = "native int8-dynamic on AVX2"
    chosen = {own: artifacts[" ".join(NATIVE[:2])]}
    floats = [f"{name} {precision}" for name, precision, _ in FLOATS]
    chosen |= {name: artifacts[name] for name in floats if name in artifacts}
    turns, _ = measured(chosen, folder, threads, 1, rounds, with_peak=False)
    return {"found": compared(turns, own), "turns_ms": turns}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    for model in options.models.split(","):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            architecture, artifacts = exports(model, folder)
            for threads in map(int, options.threads.split(",")):
                common = {"model": model, "threads": threads, "environment": to_json(environment(threads))}
                for batch in map(int, options.batches.split(",")):
                    rounds = options.rounds if batch == 1 else max(3, options.rounds // 2)
                    found = against_int8(architecture, artifacts, folder, threads, batch, rounds)
                    rows.append({**common, "batch": batch, **found})
                    report(rows[-1])
                rows.append({**common, "batch": 1, **on_avx2(artifacts, folder, threads, options.rounds // 2)})
                report(rows[-1])
                if options.out:
                    put_whole(options.out, (json.dumps({"rows": rows}, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
