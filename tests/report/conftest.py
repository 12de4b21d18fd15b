from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vitlet.bundle.manifest import Images, ModelFile
from vitlet.data.imageset import Skipped
from vitlet.measure.comparison import compare
from vitlet.records import Environment, ImageSpec, Measurement, Parity, Precision, VitArchitecture
from vitlet.report import ReportData

HERE = Environment(
    processor="Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
    architecture="x86_64",
    instruction_sets=("sse4.2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni"),
    cores=2,
    memory_bytes=8_331_292_672,
    system="Linux 6.1.0-31-amd64, Debian GNU/Linux 12 (bookworm)",
    python="3.11.2",
    packages={"torch": "2.12.1", "torchvision": "0.27.1", "timm": "1.0.31", "vitlet": "0.1.0", "numpy": "2.3.1"},
    threads=2,
)

NO_XNNPACK = (
    "this PyTorch was built without XNNPACK, which mobile optimisation needs (dropped in 2.13): "
    "install torch 2.12.1 or take another engine"
)


def measured(
    engine: str, precision: str, p50: float, size: float, *, visits: int = 2, runs: int = 64, **known: object
) -> Measurement:
    """A row as measuring makes it: right-skewed samples around ``p50`` (ms); ``size`` in MB."""
    generator = np.random.default_rng(sum(map(ord, engine + precision)))
    samples = tuple(
        tuple((p50 * (1 + 0.01 * generator.standard_normal() + generator.gamma(1.5, 0.02, runs) - 0.02)).tolist())
        for _ in range(visits)
    )
    return Measurement(
        engine=engine,
        precision=precision,
        status="ok",
        latency_samples_ms=samples,
        size_bytes=round(size * 1e6),
        load_ms=size * 1.7,
        first_ms=p50 * 1.6,
        environment=HERE,
        **known,  # type: ignore[arg-type]
    )


def absent(engine: str, precision: str, status: str, reason: str) -> Measurement:
    return Measurement(engine, precision, status, reason)  # type: ignore[arg-type]


def answers(top1: float | None, top5: float | None, agreement: float | None, error: float, **known: object) -> dict:
    return {
        "top1": top1,
        "top5": top5,
        "agreement": agreement,
        "logits_error": error,
        "images": 500,
        "labelled_images": 0 if top1 is None else 500,
        "throughput_batch": 8,
        **known,
    }


#: DeiT-S on a two-core server, as the tutorial's variants fare there.
DEIT_SMALL = (
    measured(
        "torch",
        "fp32",
        79.1,
        88.3,
        **answers(0.798, 0.950, 1.0, 0.0, peak_memory_bytes=241_500_000, throughput_images_per_s=14.1),
    ),
    measured(
        "torchscript",
        "fp32",
        76.8,
        88.9,
        **answers(0.798, 0.950, 1.0, 3.2e-7, peak_memory_bytes=263_000_000, throughput_images_per_s=14.4),
    ),
    measured(
        "torchscript",
        "int8-dynamic-qnnpack",
        559.0,
        23.4,
        **answers(0.794, 0.948, 0.986, 0.0412, peak_memory_bytes=118_000_000, throughput_images_per_s=1.8),
    ),
    measured(
        "torchscript",
        "int8-dynamic-x86",
        22.0,
        23.3,
        **answers(0.796, 0.950, 0.988, 0.0367, peak_memory_bytes=96_400_000, throughput_images_per_s=48.2),
    ),
    measured(
        "torchscript",
        "int8-dynamic-onednn",
        24.6,
        23.3,
        **answers(0.796, 0.950, 0.988, 0.0367, peak_memory_bytes=101_700_000),
    ),
    measured("mobile", "fp32", 80.4, 88.2, **answers(0.798, 0.950, 1.0, 3.3e-7, peak_memory_bytes=255_200_000)),
    measured("mobile", "int8-dynamic-qnnpack", 548.0, 23.2, **answers(0.794, 0.948, 0.986, 0.0412)),
    absent("lite", "fp32", "unsupported", NO_XNNPACK),
    absent("lite", "int8-dynamic-qnnpack", "failed", "the measuring process was killed by signal 9 (out of memory?)"),
)


def report(rows: tuple[Measurement, ...], **more: object) -> ReportData:
    """The report on rows of which the first is the baseline."""
    found = compare(rows, maximum_drop=0.01)
    given: dict = {
        "reference": "deit_small_patch16_224",
        "created": "2026-10-01T12:34:56+00:00",
        "vitlet_version": "0.1.0",
        "environment": HERE,
        "measurements": rows,
        "baseline": found.baseline,
        "best": found.best,
        "sentences": found.sentences,
        "verdicts": found.verdicts,
        "command": "vitlet compress deit_small_patch16_224 --data photos/ --out deit_small.vitlet",
        "settings": {"runs": None, "visits": 2, "throughput_batch": 8, "seed": 0, "max_drop": 0.01},
        "library": "timm",
        "architecture": VitArchitecture(224, 224, 16, 384, 12, 6, 1536, 1000),
        "image_spec": ImageSpec(224, 224, 248),
        "images": Images(
            500,
            500,
            (
                Skipped("photos/cat/IMG_2041.jpg", "truncated: 18,212 bytes are missing at the end"),
                Skipped("photos/notes.txt", "no image format that vitlet reads"),
            ),
            2,
            digest="0d5d4e1fbcb1f0d9a1f2f6a0c6b8f4d1c2e3a4b5968778695a4b3c2d1e0f0102",
        ),
        "parity": Parity("timm 1.0.31", 4, 0.0, 6.7e-6),
        "model": ModelFile("torchscript", Precision("int8-dynamic", "x86"), "model.pt", 224, 224, 1000, "scripted"),
    }
    return ReportData(**given | more)


def many(count: int) -> tuple[Measurement, ...]:
    """So many variants, crowded as real ones are, of nine engines."""
    generator = np.random.default_rng(5)
    engines = ("torch", "torchscript", "mobile", "lite", "onnxruntime", "openvino", "executorch", "native", "tvm")
    rows = [DEIT_SMALL[0]]
    for index in range(1, count):
        int8 = index % 3 != 0
        p50 = float(generator.choice([22, 25, 79, 81, 160, 550])) * float(generator.uniform(0.9, 1.1))
        answer = answers(
            0.798 - 0.004 * int8 * float(generator.uniform()),
            0.95,
            1 - 0.014 * int8,
            0.04 * int8,
            peak_memory_bytes=int(1e8 + 1e7 * index),
        )
        precision = f"int8-dynamic-{'qnnpack' if index % 2 else 'x86'}" if int8 else "fp32"
        rows.append(measured(engines[index % 9], f"{precision}-{index}", p50, 23.0 if int8 else 88.0, **answer))
    return tuple(rows)


@pytest.fixture(scope="session")
def deit_small() -> ReportData:
    return report(DEIT_SMALL)


@pytest.fixture(scope="session")
def make_report() -> Callable[..., ReportData]:
    return report


@pytest.fixture(scope="session")
def crowd() -> Callable[[int], tuple[Measurement, ...]]:
    return many
