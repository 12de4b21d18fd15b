"""Files that are damaged, foreign or gone are refused with one sentence; none crashes the process."""

from __future__ import annotations

import random
import warnings
import zipfile
from dataclasses import replace

import pytest
import torch

from vitlet.engines import engine
from vitlet.engines.torchscript.archive import holds_weights
from vitlet.errors import ModelNotFound, ModelUnreadable
from vitlet.records import Precision

FP32 = Precision("fp32")


def copied(artifact, folder, content):
    """The artifact in ``folder``, with ``content`` for what its path holds, and its companions as they are."""
    path = folder / artifact.path.name
    path.write_bytes(content)
    moved = replace(artifact, path=path)
    for old, new in zip(artifact.files[1:], moved.files[1:], strict=True):
        new.write_bytes(old.read_bytes())
    return moved


def refusal(artifact, kind=ModelUnreadable):
    with pytest.raises(kind) as caught:
        engine(artifact.engine).open(artifact, threads=1)
    sentence = str(caught.value)
    assert str(artifact.path) in sentence
    assert "\n" not in sentence
    assert len(sentence) < 600
    return sentence


def rewritten(artifact, folder, change):
    """The archive again, sound as a zip, with each record's name and content put through ``change``."""
    path = folder / artifact.path.name
    with zipfile.ZipFile(artifact.path) as old, zipfile.ZipFile(path, "w") as new:
        for record in old.infolist():
            kept = change(record.filename, old.read(record))
            if kept is not None:
                new.writestr(record.filename, kept)
    return replace(artifact, path=path)


def test_truncated_empty_blank_and_missing(engine, precision, exported, tmp_path):
    artifact = exported(engine, precision)
    whole = artifact.path.read_bytes()
    for length in (0, 1, 40, 1000, len(whole) // 2, len(whole) - 200, len(whole) - 1):
        refusal(copied(artifact, tmp_path, whole[:length]))
    refusal(copied(artifact, tmp_path, bytes(len(whole))))
    refusal(copied(artifact, tmp_path, b"\x89PNG\r\n\x1a\n" * 100))
    refusal(replace(artifact, path=tmp_path / "nothing.pt"), ModelNotFound)


def test_truncated_empty_swapped_and_missing_companion(engine, precision, exported, tmp_path):
    artifact = exported(engine, precision)
    for suffix in artifact.companions:
        moved = copied(artifact, tmp_path, artifact.path.read_bytes())
        companion = moved.path.with_suffix(suffix)
        whole = companion.read_bytes()
        for content in (b"", whole[:40], whole[:-1], bytes(len(whole)), whole[:-1] + bytes([whole[-1] ^ 1])):
            companion.write_bytes(content)
            refusal(moved)
        companion.unlink()
        refusal(moved, ModelNotFound)


@pytest.mark.parametrize(
    ("name", "precision"),
    [("torchscript", FP32), ("mobile", FP32), ("lite", FP32), ("lite", Precision("int8-dynamic", "qnnpack"))],
)
def test_damaged_program_is_found_before_it_can_crash(name, precision, exported, tmp_path):
    """A flipped bit in any record that is not weights: PyTorch's own readers take many of them
    without a word, and the lite interpreter dies of some."""
    artifact = exported(engine(name), precision)
    whole = artifact.path.read_bytes()
    chance = random.Random(7)
    with zipfile.ZipFile(artifact.path) as archive:
        records = [r for r in archive.infolist() if r.compress_size and not holds_weights(r.filename)]
    assert len(records) > 4
    for record in records:
        header = record.header_offset
        name, extra = (int.from_bytes(whole[header + at : header + at + 2], "little") for at in (26, 28))
        damaged = bytearray(whole)
        damaged[header + 30 + name + extra + chance.randrange(record.compress_size)] ^= 1 << chance.randrange(8)
        assert "is damaged or no TorchScript file" in refusal(copied(artifact, tmp_path, damaged))


@pytest.mark.parametrize("name", ["torchscript", "mobile", "lite"])
def test_weights_are_not_taken_for_program(name, exported):
    """Else a large model would be read twice, or refused for a program of absurd size."""
    for precision in engine(name).precisions():
        artifact = exported(engine(name), precision)
        with zipfile.ZipFile(artifact.path) as archive:
            program = sum(r.file_size for r in archive.infolist() if not holds_weights(r.filename))
        assert program < 150_000, precision


@pytest.mark.parametrize("name", ["torchscript", "mobile", "lite"])
def test_sound_archive_with_a_program_that_pytorch_cannot_read(name, exported, tmp_path):
    artifact = exported(engine(name), FP32)
    # The lite interpreter starts from the bytecode, the others from the code.
    victims = ("/bytecode.pkl",) if name == "lite" else (".py",)
    broken = rewritten(artifact, tmp_path, lambda n, c: b"def (:" + c[:9] if n.endswith(victims) else c)
    assert f"PyTorch {torch.__version__} cannot load" in refusal(broken)


def test_foreign_files(exported, tmp_path):
    artifact = exported(engine("torchscript"), FP32)
    path = tmp_path / "foreign.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Identity()), path)
    assert "is no TorchScript file written by vitlet" in refusal(replace(artifact, path=path))
    torch.save({"weight": torch.zeros(3)}, path)
    assert "is no TorchScript file written by vitlet" in refusal(replace(artifact, path=path))
    (tmp_path / "folder.pt").mkdir()
    refusal(replace(artifact, path=tmp_path / "folder.pt"), ModelNotFound)
    for content in (b"[]", b"{", b'"vitlet"', b"\xff"):
        strange = rewritten(artifact, tmp_path, lambda n, c, content=content: content if "vitlet.json" in n else c)
        assert "is damaged or no TorchScript file" in refusal(strange)


def test_program_of_absurd_size_is_not_unpacked(exported, tmp_path):
    artifact = exported(engine("torchscript"), FP32)
    bomb = rewritten(artifact, tmp_path, lambda n, c: c)
    with zipfile.ZipFile(bomb.path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("a/bomb", "w") as record:
        for _ in range(300):
            record.write(bytes(2**20))
    assert "its program claims 31" in refusal(bomb)


def test_another_artifact_than_the_one_spoken_of(exported):
    script = engine("torchscript")
    artifact = exported(script, FP32)
    assert "another artifact (classes 10 instead of 11)" in refusal(replace(artifact, classes=11))
    assert "height 32 instead of 33, width 32 instead of 1" in refusal(replace(artifact, height=33, width=1))
    qnnpack = replace(artifact, precision=Precision("int8-dynamic", "qnnpack"))
    assert "precision 'fp32' instead of 'int8-dynamic-qnnpack'" in refusal(qnnpack)
    if engine("mobile").available().ok:
        assert "engine 'torchscript' instead of 'mobile'" in refusal(replace(artifact, engine="mobile"))
    checkpoint = exported(engine("torch"), FP32)
    refusal(replace(artifact, path=checkpoint.path))
    refusal(replace(checkpoint, path=artifact.path))
    assert "32x32 pixels and 10 classes, not 32x32 and 11" in refusal(replace(checkpoint, classes=11))
