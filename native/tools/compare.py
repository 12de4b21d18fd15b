"""Logits, time and phases of the native library against PyTorch, for every instruction set of this processor.

cmake -S native -B native/build -G Ninja && ninja -C native/build
python native/tools/compare.py deit_small_patch16_224 --random-weights --threads 2
"""

from __future__ import annotations

import argparse
import ctypes
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from vitlet.engines.native.model_file import model_file
from vitlet.pipeline import load
from vitlet.records import Precision

LIBRARY = Path(__file__).parents[1] / "build" / "libvitlet.so"


class Library:
    """The C interface, as far as it is needed here."""

    def __init__(self) -> None:
        self.c = ctypes.CDLL(str(LIBRARY))
        for name in ("vitlet_load", "vitlet_open"):
            getattr(self.c, name).restype = ctypes.c_void_p
        for name in ("vitlet_last_error", "vitlet_phase_name", "vitlet_instruction_sets"):
            getattr(self.c, name).restype = ctypes.c_char_p
        self.c.vitlet_phase_ms.restype = ctypes.c_double
        self.c.vitlet_classes.restype = ctypes.c_size_t

    def instruction_sets(self) -> list[str]:
        return self.c.vitlet_instruction_sets().decode().split()

    def require(self, ok: object) -> None:
        if not ok:
            raise RuntimeError(self.c.vitlet_last_error().decode())


class Session:
    def __init__(self, library: Library, path: Path, threads: int) -> None:
        self.library = library
        self.model = ctypes.c_void_p(library.c.vitlet_load(str(path).encode()))
        library.require(self.model)
        self.classes = library.c.vitlet_classes(self.model)
        self.session = ctypes.c_void_p(library.c.vitlet_open(self.model, threads))
        library.require(self.session)

    def run(self, images: np.ndarray) -> np.ndarray:
        images = np.ascontiguousarray(images, np.float32)
        logits = np.empty((len(images), self.classes), np.float32)
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (images, logits)]
        status = self.library.c.vitlet_run(self.session, pointers[0], ctypes.c_size_t(len(images)), pointers[1])
        self.library.require(status == 0)
        return logits

    def phases(self, image: np.ndarray, runs: int = 20) -> dict[str, float]:
        self.library.c.vitlet_profile(self.session, 1)
        for _ in range(runs):
            self.run(image)
        found = {}
        while (name := self.library.c.vitlet_phase_name(ctypes.c_size_t(len(found)))) is not None:
            spent = self.library.c.vitlet_phase_ms(self.session, ctypes.c_size_t(len(found)))
            found[name.decode()] = round(spent / runs, 2)
        self.library.c.vitlet_profile(self.session, 0)
        return found


def milliseconds(session: Session, image: np.ndarray, runs: int = 40) -> float:
    samples = []
    for _ in range(runs):
        begin = time.perf_counter()
        session.run(image)
        samples.append(1000 * (time.perf_counter() - begin))
    return float(np.median(samples[5:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--random-weights", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    classifier = load(options.model, random_weights=options.random_weights)
    a = classifier.architecture
    images = np.random.default_rng(0).standard_normal((4, 3, a.image_height, a.image_width)).astype(np.float32)
    with torch.no_grad():
        wanted = classifier.module(torch.from_numpy(images)).numpy()
    library = Library()
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("fp32", "int8-dynamic"):
            path = Path(folder) / precision
            path.write_bytes(model_file(classifier, Precision(precision)))
            for name in library.instruction_sets():
                os.environ["VITLET_ISA"] = name
                session = Session(library, path, options.threads)
                found = session.run(images)
                error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
                alone = np.concatenate([session.run(image[None]) for image in images])
                print(
                    f"{precision:13s} {name:11s} logits error {error:.2e}, {milliseconds(session, images[:1]):.2f} ms"
                )
                print("   ", session.phases(images[:1]), "" if np.array_equal(found, alone) else "BATCH DIFFERS")


if __name__ == "__main__":
    main()
