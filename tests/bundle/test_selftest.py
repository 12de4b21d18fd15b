"""``python selftest.py`` in a bundle, as it runs where the bundle was shipped to: without vitlet or torch."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitlet.bundle import shipped

WELL, FAILED, USAGE, DAMAGED, PREPROCESSING, NUMERIC, SLOWER, NOT_TESTED = 0, 1, 2, 10, 11, 12, 13, 14

#: Runs selftest.py as a program where no library but numpy, Pillow and ONNX Runtime can be imported.
ALONE = """
import runpy, sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("vitlet", "torch", "torchvision", "timm", "msgspec", "typer", "rich", "scipy"):
            raise ImportError(f"{name} is not on this machine")

sys.meta_path.insert(0, Nothing())
script, *sys.argv[1:] = sys.argv[1:]
sys.argv[0] = script
runpy.run_path(script, run_name="__main__")
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    def check(self, name: str) -> dict[str, Any]:
        (found,) = [check for check in json.loads(self.out)["checks"] if check["check"] == name]
        return found

    def told(self, name: str) -> str:
        return "\n".join(self.check(name)["sentences"])


def selftest(bundle: Path, *arguments: str | Path, speed: bool = False, as_json: bool = True) -> Done:
    options = [*map(str, arguments), *([] if speed else ["--no-speed"]), *(["--json"] if as_json else [])]
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(bundle / "selftest.py"), *options],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def seal(bundle: Path, change: Callable[[dict], object] = lambda manifest: None) -> None:
    """Change the manifest, and let all hashes fit what lies there: as somebody does who knows how a bundle is made."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    for name, entry in manifest["files"].items():
        content = (bundle / name).read_bytes()
        entry |= {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    path.write_text(json.dumps(manifest))
    sums = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    sums["manifest.json"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (bundle / "SHA256SUMS").write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))


def edit(bundle: Path, change: Callable[[dict], object]) -> None:
    """Change the manifest, as somebody does who knows nothing of hashes."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest, indent=1))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def write_application(folder: Path, body: str) -> str:
    """An application's preprocessing: a function ``prepare``; returns what --preprocess takes."""
    (folder / "preprocess.py").write_text(
        "import numpy as np\nfrom PIL import Image, ImageOps\n"
        "MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])\n"
        "def resized(path, size=73, crop=64, filter=Image.BICUBIC, turn=True):\n"
        "    image = Image.open(path)\n"
        "    image = (ImageOps.exif_transpose(image) if turn else image).convert('RGB')\n"
        "    w, h = image.size\n"
        "    to = (size, int(size * h / w)) if w <= h else (int(size * w / h), size)\n"
        "    left, top = round((to[0] - crop) / 2), round((to[1] - crop) / 2)\n"
        "    return np.asarray(image.resize(to, filter).crop((left, top, left + crop, top + crop)))\n"
        "def normalised(pixels, mean=MEAN, std=STD):\n"
        "    return ((pixels / 255 - mean) / std).transpose(2, 0, 1)\n"
        f"def prepare(path):\n    {body}\n"
    )
    return f"{folder / 'preprocess.py'}:prepare"


# All is well


def test_a_whole_bundle_passes_without_vitlet_and_torch_and_leaves_no_trace(tested: Path) -> None:
    before = sorted(tested.iterdir())
    done = selftest(tested, as_json=False)
    assert done.code == WELL, done
    assert done.out.endswith("ALL IS WELL\n")
    assert "all 4 golden images give exactly the right input" in done.out
    assert sorted(tested.iterdir()) == before


def test_without_the_runtime_it_says_which_to_install(tested: Path) -> None:
    code = ALONE.replace('"torch",', '"torch", "onnxruntime",')
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(tested / "selftest.py"), "--no-speed"],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == NOT_TESTED, done.stderr
    assert "pip install onnxruntime==" in done.stdout
    assert "preprocessing: ok" in done.stdout


def test_a_model_of_vitlets_own_engine_is_sent_to_vitlet_verify(tested: Path) -> None:
    seal(tested, lambda m: m["model"].update(engine="native"))
    done = selftest(tested)
    assert done.code == NOT_TESTED
    assert f"vitlet verify {tested}" in done.told("answers")


def test_what_is_shipped_is_python_3_9() -> None:
    for name in shipped.FILES:
        ast.parse((Path(shipped.__file__).parent / name).read_text(), name, feature_version=(3, 9))
    shipped_here = {path.name for path in Path(shipped.__file__).parent.glob("*.py")} - {"__init__.py"}
    assert shipped_here == set(shipped.FILES)


# The four that must be caught and named


@pytest.mark.parametrize(
    "name", ["model.onnx", "golden-card.png", "golden-card-input.npy", "golden-logits.npy", "report.html"]
)
def test_one_flipped_bit_is_named_with_its_file(tested: Path, name: str) -> None:
    flip(tested / name, (tested / name).stat().st_size // 2)
    done = selftest(tested)
    assert done.code == DAMAGED
    assert done.check("files")["damaged"] == [name]
    assert f"{name} is damaged: its bytes are not those that were written" in done.told("files")


@pytest.mark.parametrize("place", range(5, 6000, 611))
def test_a_flipped_bit_in_the_manifest_is_the_manifests(tested: Path, place: int) -> None:
    flip(tested / "manifest.json", place)
    done = selftest(tested, "--no-run")
    assert done.code == DAMAGED
    assert done.check("files")["damaged"] == ["manifest.json"], done.told("files")


@pytest.mark.parametrize("place", [0, 70, 200, 399])
def test_a_flipped_bit_in_the_sums_is_the_sums(tested: Path, place: int) -> None:
    flip(tested / "SHA256SUMS", place)
    done = selftest(tested, "--no-run")
    assert done.code == DAMAGED
    assert done.check("files")["damaged"] == ["SHA256SUMS"], done.told("files")


@pytest.mark.parametrize("name", [name for name in shipped.FILES if name != "selftest.py"])
def test_a_damaged_part_of_the_self_test_is_named_even_if_it_cannot_be_imported(tested: Path, name: str) -> None:
    (tested / name).write_text("def (\n")
    done = selftest(tested, "--no-run")
    assert done.code == DAMAGED
    assert name in done.err + done.out


@pytest.mark.parametrize("change", [edit, seal])
def test_a_changed_mean_is_named(tested: Path, change: Callable[..., None]) -> None:
    change(tested, lambda m: m["image_spec"].update(mean=[0.5, 0.456, 0.406]))
    done = selftest(tested)
    assert done.code == (DAMAGED if change is edit else PREPROCESSING)
    assert (
        "the mean differs: manifest.json says (0.5, 0.456, 0.406), "
        "and the model was measured with (0.485, 0.456, 0.406)" in done.told("preprocessing")
    )
    if change is edit:
        assert "manifest.json was changed since the bundle was written" in done.told("files")


@pytest.mark.parametrize("change", [edit, seal])
def test_another_filter_is_named(tested: Path, change: Callable[..., None]) -> None:
    change(tested, lambda m: m["image_spec"].update(interpolation="bilinear"))
    done = selftest(tested)
    assert done.code == (DAMAGED if change is edit else PREPROCESSING)
    assert "the filter differs: manifest.json says bilinear, and the model was measured with bicubic" in done.told(
        "preprocessing"
    )


@pytest.mark.parametrize("is_sealed", [False, True])
@pytest.mark.parametrize("place", ["resized[rows, columns]", "pixels.transpose(0, 3, 1, 2)"])
def test_swapped_channels_are_named(tested: Path, is_sealed: bool, place: str) -> None:
    code = (tested / "preprocess.py").read_text()
    swapped = place + "[..., ::-1]" if place.startswith("resized") else place.replace("pixels", "pixels[..., ::-1]")
    assert place in code
    (tested / "preprocess.py").write_text(code.replace(place, swapped))
    if is_sealed:
        seal(tested)
    done = selftest(tested)
    assert done.code == (PREPROCESSING if is_sealed else DAMAGED)
    assert "red and blue are swapped: preprocess.py gives the channels as BGR" in done.told("preprocessing")
    if not is_sealed:
        assert done.check("files")["damaged"] == ["preprocess.py"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"resize": [64, 64]}, "says stretched to 64 x 64, and the model was measured with shorter edge resized to 73"),
        ({"resize": 70}, "says shorter edge resized to 70, then the centre 64 x 64 cut out, and the model was"),
        ({"crop_rounding": "down"}, "cut one pixel beside the centre"),
        ({"std": [0.5, 0.5, 0.5]}, "the std differs: manifest.json says (0.5, 0.5, 0.5)"),
        ({"mean": [0.486, 0.456, 0.406]}, "the mean differs: manifest.json says (0.486, 0.456, 0.406)"),
        ({"std": [0.0, 0.5, 0.5]}, "image_spec.std is [0.0, 0.5, 0.5]"),
    ],
)  # fmt: skip
def test_every_other_setting_is_named(tested: Path, change: dict, says: str) -> None:
    seal(tested, lambda m: m["image_spec"].update(change))
    done = selftest(tested, "--no-run")
    assert done.code == PREPROCESSING
    assert says in done.told("preprocessing")


# Numbers and speed


def test_another_models_answers_are_numeric_drift(tested: Path) -> None:
    logits = np.load(tested / "golden-logits.npy")
    np.save(tested / "golden-logits.npy", np.roll(logits, 1, axis=1))
    seal(tested)
    done = selftest(tested)
    assert done.code == NUMERIC
    assert "away from the golden ones on" in done.told("answers")
    assert "here and was" in done.told("answers")
    assert done.check("preprocessing")["outcome"] == "ok"


def test_logits_that_moved_by_less_than_quantizing_moved_them_pass(tested: Path) -> None:
    found = selftest(tested).check("answers")
    assert found["distance"] < 1e-4 < 0.001 <= found["tolerance"] < 0.5
    logits = np.load(tested / "golden-logits.npy")
    noise = np.random.default_rng(0).standard_normal(logits.shape).astype(np.float32)
    noise *= np.linalg.norm(logits, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    for share, code in ((0.5, WELL), (3.0, NUMERIC)):
        np.save(tested / "golden-logits.npy", logits + share * found["tolerance"] * noise)
        seal(tested)
        assert selftest(tested).code == code


def test_slower_than_certified_is_a_warning_unless_it_is_asked_about(tested: Path) -> None:
    seal(tested, lambda m: m["measurements"][1].update(latency_samples_ms=[[1e-6] * 9, [1e-6] * 9]))
    done = selftest(tested, speed=True)
    assert done.code == WELL
    assert done.check("speed")["outcome"] == "slower"
    assert not done.check("speed")["failure"]
    assert "slower here than certified" in done.told("speed")
    assert selftest(tested, "--max-latency-ms", "certified", speed=True).code == SLOWER


def test_a_limit_in_milliseconds(tested: Path) -> None:
    assert selftest(tested, "--max-latency-ms", "1e-6", speed=True).code == SLOWER
    assert selftest(tested, "--max-latency-ms", "60000", speed=True).code == WELL
    assert selftest(tested, "--max-latency-ms", "-3").code == USAGE


# The application's own preprocessing


@pytest.mark.parametrize(
    "body",
    [
        "return normalised(resized(path))",
        "return normalised(resized(path))[None].astype('float32')",
        "return {'pixel_values': [normalised(resized(path)).tolist()]}",
    ],
)
def test_an_application_that_prepares_images_rightly(tested: Path, tmp_path: Path, body: str) -> None:
    done = selftest(tested, "--preprocess", write_application(tmp_path, body))
    assert done.code == WELL, done.out
    assert done.check("application")["outcome"] == "ok"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            "return normalised(resized(path)[..., ::-1])",
            ["red and blue are swapped: the application gives the channels as BGR"],
        ),
        ("return normalised(resized(path))[::-1]", ["gives the channels as BGR"]),
        (
            "return normalised(resized(path), mean=0.5)",
            ["normalises with the mean (0.5, 0.5, 0.5), and the model wants (0.485, 0.456, 0.406)"],
        ),
        ("return normalised(resized(path), 0.5, 0.5)", ["values that are -1..1 (mean 0.5, std 0.5)"]),
        ("return resized(path).transpose(2, 0, 1)", ["values that are 0..255, neither divided nor normalised"]),
        ("return resized(path).transpose(2, 0, 1) / 255", ["values that are 0..1, not normalised by mean and std"]),
        ("return normalised(resized(path) * 255.0)", ["normalised without division by 255"]),
        ("return normalised(resized(path) / 255)", ["divided by 255 twice"]),
        ("return normalised((resized(path) / 255 - MEAN) / STD * 255)", ["normalised twice"]),
        (
            "return normalised(resized(path, filter=Image.BILINEAR))",
            ["resizes with the filter bilinear, and the model wants bicubic"],
        ),
        ("return normalised(resized(path, filter=Image.NEAREST))", ["resizes with the filter nearest"]),
        (
            "return normalised(resized(path, size=64))",
            ["shorter edge resized to 64", "the model wants: shorter edge resized to 73"],
        ),
        (
            "image = ImageOps.exif_transpose(Image.open(path)).convert('RGB')\n"
            "    return normalised(np.asarray(image.resize((64, 64), 3)))",
            ["stretched to 64 x 64"],
        ),
        ("return normalised(resized(path, turn=False))", ["ignores the EXIF orientation"]),
        ("return normalised(resized(path)[:, ::-1])", ["mirrored; is an augmentation"]),
        (
            "return normalised(resized(path)).transpose(1, 2, 0)",
            ["the axes [height, width, channels], and the model wants [channels, height, width]"],
        ),
        (
            "return normalised(resized(path)).transpose(1, 2, 0).reshape(3, 64, 64)",
            ["reshaped from [height, width, 3]"],
        ),
        (
            "return normalised(resized(path, filter=Image.BILINEAR)[..., ::-1], 0.4)",
            ["BGR", "filter bilinear", "mean (0.4, 0.4, 0.4)"],
        ),
        (
            "return normalised(resized(path, size=100, crop=90))",
            ["[3, 90, 90]; the model takes float32 [1, 3, 64, 64]"],
        ),
        ("return normalised(resized(path)) * float('nan')", ["values that are not finite"]),
        ("return normalised(255 - resized(path).astype(int) ** 2 % 256)", ["none of the usual mistakes explains it"]),
        ("return 'a string'", ["which is no array of numbers"]),
    ],
)  # fmt: skip
def test_an_applications_mistake_is_named(tested: Path, tmp_path: Path, body: str, says: list[str]) -> None:
    done = selftest(tested, "--preprocess", write_application(tmp_path, body), "--no-run")
    assert done.code == PREPROCESSING, done.out
    for part in says:
        assert part in done.told("application")
    if len(says) == 1:
        assert len(done.check("application")["sentences"]) == 1, done.told("application")


def test_only_the_turned_card_shows_a_missing_turn(tested: Path, tmp_path: Path) -> None:
    done = selftest(tested, "--preprocess", write_application(tmp_path, "return normalised(resized(path, turn=False))"))
    assert done.told("application").endswith("(golden-card-turned.png)")
    assert "golden images" in done.told("effect")


@pytest.mark.parametrize(
    ("body", "says"),
    [("raise KeyError('size')", "the function fails on golden-card.png: KeyError"), ("return missing", "NameError")],
)
def test_an_application_that_fails(tested: Path, tmp_path: Path, body: str, says: str) -> None:
    done = selftest(tested, "--preprocess", write_application(tmp_path, body))
    assert done.code == FAILED
    assert says in done.err


@pytest.mark.parametrize(
    "place", ["nowhere.py:prepare", "preprocess.py", "preprocess.py:nothing", "preprocess.py:MEAN"]
)
def test_a_function_that_is_not_there(tested: Path, tmp_path: Path, place: str) -> None:
    write_application(tmp_path, "return 0")
    assert selftest(tested, "--preprocess", str(tmp_path / place)).code == FAILED


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--image", "golden-card.png"), "give --tensor, too"),
        (("--no-speed", "--max-latency-ms", "5"), "--no-speed leaves out"),
        (("--no-run", "--max-latency-ms", "5"), "--no-run leaves out"),
        (("--preprocess", "preprocess.py"), "names no function; write FILE.py:FUNCTION"),
        (("--preprocess", "nowhere.py:prepare"), "there is no file nowhere.py"),
    ],
)
def test_what_does_not_go_together(tested: Path, arguments: tuple[str, ...], says: str) -> None:
    done = selftest(tested, *arguments)
    assert (done.code, says in done.err) == (FAILED, True), done.err


def test_a_tensor_from_another_language(tested: Path, tmp_path: Path) -> None:
    right = np.load(tested / "golden-card-input.npy")
    right.astype("<f4").tofile(tmp_path / "right.bin")
    np.save(tmp_path / "swapped.npy", right[None, ::-1].astype(np.float64))
    assert selftest(tested, "--tensor", tmp_path / "right.bin").code == WELL
    done = selftest(tested, "--tensor", tmp_path / "swapped.npy")
    assert done.code == PREPROCESSING
    assert "BGR" in done.told("application")
    (tmp_path / "short.bin").write_bytes(bytes(100))
    done = selftest(tested, "--tensor", tmp_path / "short.bin")
    assert (done.code, "has 100 bytes; float32 [3, 64, 64] are 49152" in done.err) == (FAILED, True)
    done = selftest(tested, "--tensor", tmp_path / "right.bin", "--image", "golden-9.png")
    assert (done.code, "there are: golden-card.png" in done.err) == (FAILED, True)


# Bundles that were made to do harm, and older ones


def test_an_older_bundle_is_not_said_to_be_well(tested: Path) -> None:
    seal(tested, lambda m: m.pop("golden"))
    done = selftest(tested)
    assert done.code == NOT_TESTED
    assert "no golden images in this bundle" in done.told("preprocessing")


@pytest.mark.parametrize("name", ["../outside.npy", "/etc/hostname", "a/b", "x\\y", ".hidden", "manifest.json"])
def test_files_outside_are_never_opened(tested: Path, name: str) -> None:
    (tested.parent / "outside.npy").write_bytes((tested / "golden-card-input.npy").read_bytes())
    seal(tested, lambda m: m["golden"]["images"][0].update(input=name))
    done = selftest(tested)
    assert done.code == FAILED
    assert "is none of the bundle's files" in done.err


def test_names_of_files_outside_are_refused(tested: Path) -> None:
    manifest = json.loads((tested / "manifest.json").read_text())
    manifest["files"]["../outside"] = {"sha256": "0" * 64, "size_bytes": 1}
    raw = json.dumps(manifest).encode()
    (tested / "manifest.json").write_bytes(raw)
    sums = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    sums["manifest.json"] = hashlib.sha256(raw).hexdigest()
    (tested / "SHA256SUMS").write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))
    done = selftest(tested)
    assert (done.code, "no plain name in its own folder" in done.err) == (FAILED, True)


def _npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not numpy's",
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 99999999, 99)}"),
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 64, 64)}"),
        _npy("{'descr': '|O', 'fortran_order': False, 'shape': (3, 64, 64)}", b"cos\nsystem\n(S'touch harm'\ntR."),
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 64, 64)}", b"\xff" * 4 * 3 * 64 * 64),
        _npy("__import__('os').system('touch harm')"),
        _npy("(" * 110),
    ],
    ids=["empty", "other", "huge", "short", "pickle", "nan", "code", "deep"],
)
def test_a_hostile_array_is_refused(tested: Path, content: bytes) -> None:
    (tested / "golden-card-input.npy").write_bytes(content)
    seal(tested)
    done = selftest(tested)
    assert done.code == FAILED
    assert done.err.startswith("error: the golden files are not what manifest.json says: golden-card-input.npy")
    assert not list(tested.parent.rglob("harm"))


@pytest.mark.parametrize("name", ["golden-card-input.npy", "manifest.json", "model.onnx", "SHA256SUMS"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("report.html"), lambda path: None])
def test_what_is_no_ordinary_file_neither_hangs_nor_passes(
    tested: Path, make: Callable[[Path], object], name: str
) -> None:
    (tested / name).unlink()
    make(tested / name)
    done = selftest(tested, "--no-run")
    assert done.code == DAMAGED
    assert name in done.check("files")["damaged"]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(golden=[]),
        lambda m: m["golden"].update(images=[]),
        lambda m: m["golden"]["images"][0].update(row=-1),
        lambda m: m["golden"]["images"][0].update(row=10**9),
        lambda m: m["golden"].update(tolerance="large"),
        lambda m: m["golden"].pop("logits"),
        lambda m: m["model"].update(classes=10**12),
        lambda m: m["model"].update(height="64"),
        lambda m: m["model"].update(file="../model.onnx"),
        lambda m: m["model"].update(companions=["/../../x"]),
        lambda m: m["recipe"].update(threads=10**9),
        lambda m: m.update(chosen=99),
        lambda m: m.update(labels="cat"),
        lambda m: m.pop("environment"),
        lambda m: m.update(measurements={}),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused_in_a_sentence(
    tested: Path, change: Callable[[dict], object]
) -> None:
    seal(tested, change)
    done = selftest(tested)
    assert done.code == FAILED, done
    assert done.err.count("\n") == 1
    assert done.err.startswith("error: ")


def test_hostile_labels_do_not_reach_the_terminal(tested: Path) -> None:
    logits = np.load(tested / "golden-logits.npy")
    np.save(tested / "golden-logits.npy", np.roll(logits, 1, axis=1))
    seal(tested, lambda m: m.update(labels=["\x1b[2Jgone", "b", "c", "d", "e\nf"]))
    done = selftest(tested, as_json=False)
    assert done.code == NUMERIC
    assert "\x1b" not in done.out


def test_files_of_somebody_else_are_told_and_not_touched(tested: Path) -> None:
    (tested / "notes.txt").write_text("mine")
    done = selftest(tested, "--no-run")
    assert done.code == WELL
    assert "not the bundle's, and not looked at: notes.txt" in done.told("files")
