"""The header and the example for C programs."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from .conftest import NATIVE, missing, run

HEIGHT, WIDTH, CLASSES = 12, 8, 5
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small int8 model of random weights."""
    random = np.random.default_rng(3)
    width, hidden, patch, tokens = 12, 20, 4, 7
    tensors = {
        "prefix": random.standard_normal((1, width), np.float32),
        "position": random.standard_normal((tokens - 1, width), np.float32),
        "final_norm.weight": random.uniform(0.5, 1.5, width).astype(np.float32),
        "final_norm.bias": random.standard_normal(width, np.float32),
    }
    linears = {"embed": (3 * patch**2, width, 1e-4), "head": (width, CLASSES, 0.01)}
    linears |= {"blocks.0.qkv": (width, 3 * width, 0.01), "blocks.0.projection": (width, width, 0.01)}
    linears |= {"blocks.0.up": (width, hidden, 0.01), "blocks.0.down": (hidden, width, 0.01)}
    for name, (inputs, outputs, scale) in linears.items():
        tensors[f"{name}.weight"] = random.integers(-127, 128, (outputs, inputs), np.int8)
        tensors[f"{name}.scale"] = np.full(outputs, scale, np.float32)
        tensors[f"{name}.bias"] = random.standard_normal(outputs, np.float32)
    configuration = {
        "format": 1,
        "precision": "int8-dynamic",
        "image_height": HEIGHT,
        "image_width": WIDTH,
        "patch": patch,
        "width": width,
        "classes": CLASSES,
        "prefix_tokens": 1,
        "distilled": False,
        "pool": "token",
        "pre_norm": False,
        "final_norm": True,
        "pool_norm": False,
        "pre_logits": 0,
        "activation": "gelu",
        "norm_eps": 1e-6,
        "blocks": [{"heads": 2, "head_width": width // 2, "mlp_width": hidden}],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "labels": ["fish", "bird", "café", "猫", "ship"],
    }
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_file(tensors, path, metadata={"vitlet": json.dumps(configuration)})
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Raw images and their pixels."""
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(4).integers(0, 256, (8, HEIGHT, WIDTH, 3), np.uint8)
    for number, image in enumerate(pixels):
        (folder / f"{number}.rgb").write_bytes(image.tobytes())
    return folder, pixels


@pytest.fixture(scope="module")
def classify(library, tmp_path_factory):
    """The example, compiled by the line that its head gives."""
    if not shutil.which("cc"):
        missing("cc")
    program = tmp_path_factory.mktemp("example") / "classify"
    source = NATIVE / "examples" / "classify.c"
    link = [f"-I{NATIVE / 'include'}", f"-L{library}", "-lvitlet", f"-Wl,-rpath,{library}"]
    run("cc", "-std=c99", *STRICT, source, *link, "-o", program)
    return program


def by_ctypes(library: Path, model: Path, pixels: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Logits and labels, straight from the C interface."""
    native = ctypes.CDLL(str(library / "libvitlet.so"))
    native.vitlet_load.restype = native.vitlet_open.restype = ctypes.c_void_p
    native.vitlet_label.restype = ctypes.c_char_p
    loaded = ctypes.c_void_p(native.vitlet_load(str(model).encode()))
    session = ctypes.c_void_p(native.vitlet_open(loaded, 2))
    logits = np.zeros((len(pixels), CLASSES), np.float32)
    data = np.ascontiguousarray(pixels).ctypes.data_as(ctypes.c_void_p)
    assert (
        native.vitlet_run_rgb(session, data, ctypes.c_size_t(len(pixels)), logits.ctypes.data_as(ctypes.c_void_p)) == 0
    )
    labels = [native.vitlet_label(loaded, ctypes.c_size_t(number)).decode() for number in range(CLASSES)]
    native.vitlet_close(session)
    native.vitlet_free(loaded)
    return logits, labels


def test_example_answers_as_the_library(classify, library, model, images):
    folder, pixels = images
    logits, labels = by_ctypes(library, model, pixels)
    assert len(set(logits.argmax(axis=1))) > 1  # or any answer would do
    for number, row in enumerate(logits):
        for threads in ([], ["1"], ["3"]):
            answer = run(classify, model, folder / f"{number}.rgb", *threads)
            assert answer == f"{labels[row.argmax()]} (logit {row.max():.3f})\n"


def test_example_says_what_is_wrong_in_one_sentence(classify, model, images, tmp_path):
    folder, pixels = images
    image = folder / "0.rgb"
    short, long, broken = tmp_path / "short", tmp_path / "long", tmp_path / "broken"
    short.write_bytes(pixels[0].tobytes()[:-1])
    long.write_bytes(pixels[0].tobytes() + b"\0")
    broken.write_bytes(model.read_bytes()[:-1])
    for arguments, sentence in {
        (): "give a model file and a raw image",
        (model,): "give a model file and a raw image",
        (model, image, 1, 2): "give a model file and a raw image",
        (tmp_path / "none", image): f"cannot open {tmp_path / 'none'}: No such file or directory",
        (tmp_path, image): f"{tmp_path} is no regular file",
        (broken, image): "data_offsets must be a whole number, ",
        (model, tmp_path / "none"): "the image cannot be opened",
        (model, tmp_path): "the image does not have height * width * 3 bytes",
        (model, short): "the image does not have height * width * 3 bytes",
        (model, long): "the image does not have height * width * 3 bytes",
        (model, image, 0): "threads is 0; it must be 1 to 1024",
        (model, image, "two"): "threads is 0; it must be 1 to 1024",
        (model, image, 1025): "threads is 1025; it must be 1 to 1024",
    }.items():
        finished = subprocess.run([classify, *map(str, arguments)], capture_output=True, text=True, timeout=600)
        assert finished.returncode == 1, arguments
        assert finished.stdout == ""
        assert finished.stderr.startswith(f"classify: {sentence}"), arguments
        assert finished.stderr.count("\n") == 1


@pytest.mark.parametrize("standard", ["c89", "c99", "c11", "c++98", "c++17"])
def test_header_stands_alone(standard, tmp_path):
    compiler = "c++" if "+" in standard else "cc"
    if not shutil.which(compiler):
        missing(compiler)
    # stdint.h came with C99: C89 has it as an extension that no flag forbids.
    source = tmp_path / ("user.cc" if "+" in standard else "user.c")
    source.write_text('#include "vitlet.h"\n#include "vitlet.h"\nint main(void) { return vitlet_version() == 0; }\n')
    flags = ["-Wno-long-long"] if standard in ("c89", "c++98") else []
    run(
        compiler,
        f"-std={standard}",
        *STRICT,
        *flags,
        f"-I{NATIVE / 'include'}",
        "-c",
        source,
        "-o",
        tmp_path / "user.o",
    )


def test_library_shows_only_its_interface(library):
    if not shutil.which("nm"):
        missing("nm")
    shown = run("nm", "--dynamic", "--defined-only", "--format=just-symbols", library / "libvitlet.so").split()
    header = (NATIVE / "include" / "vitlet.h").read_text()
    # What the C++ library instantiates is weak, and shown by all C++ libraries.
    own = {name for name in shown if not name.startswith("_Z")}
    assert own == {name for name in own if f"{name}(" in header}
    assert not [name for name in shown if "6vitlet" in name and name.startswith("_ZN6vitlet")]
