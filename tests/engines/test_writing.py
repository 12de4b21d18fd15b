"""Where a file cannot be written: one sentence, nothing half-written, and the old file still there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vitlet.engines import engine
from vitlet.engines.artifacts import with_ending
from vitlet.errors import NotWritable, Unsupported
from vitlet.records import Precision
from vitlet.whole_file import write_whole

FP32 = Precision("fp32")


def test_dots_in_the_name_are_no_suffix():
    assert with_ending(Path("a/vit.v2"), ".pt") == Path("a/vit.v2.pt")


@pytest.mark.parametrize("name", ["torch", "torchscript", "mobile", "lite", "openvino"])
def test_places_that_take_no_file(name, distilled, tmp_path):
    (tmp_path / "file").write_text("")
    places = [tmp_path / "missing" / "model", tmp_path / "file" / "model"]
    if sys.platform == "linux":
        places.append(Path("/proc/model"))  # refuses root, too
    for place in places:
        try:
            with pytest.raises(NotWritable, match="cannot be written: ") as caught:
                engine(name).export(distilled, FP32, place)
        except Unsupported as unsupported:
            pytest.skip(unsupported.reason)
        assert "\n" not in str(caught.value)
        assert str(place) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_advice_fits_the_reason(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotWritable, match="No such file or directory; create that folder first"):
        write_whole(tmp_path / "missing" / "model.pt", b"")
    with pytest.raises(NotWritable, match="Not a directory; choose a path whose parents are all folders"):
        write_whole(tmp_path / "file" / "model.pt", b"")
    with pytest.raises(NotWritable, match="Is a directory; a folder has that name"):
        write_whole(tmp_path / "folder", b"")
    with pytest.raises(NotWritable, match="File name too long; choose another place"):
        write_whole(tmp_path / ("x" * 300), b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(sys.platform != "linux", reason="a limit on file sizes stands in for a full disk")
def test_full_disk_leaves_the_old_file(exported, fresh_process, tmp_path):
    """A process that may write no file above 100 kB fails in the middle of the write."""
    code = """
import resource
from pathlib import Path
from vitlet.engines import engines
from vitlet.errors import NotWritable, Unsupported
from vitlet.models.checkpoint import load_checkpoint
from vitlet.records import Precision
classifier = load_checkpoint(arguments[0])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
said = {}
for name, engine in engines().items():
    if name == "inductor":
        continue  # compiles for long, and ends at the compiler's own files
    try:
        engine.export(classifier, Precision("fp32"), Path(arguments[1]) / "model")
    except (NotWritable, Unsupported) as error:
        said[name] = [type(error).__name__, str(error)]
print(json.dumps(said))
"""
    for ending in (".pt", ".ptl", ".safetensors"):
        (tmp_path / f"model{ending}").write_text("old")
    said = fresh_process(code, exported(engine("torch"), FP32).path, tmp_path).answer
    assert set(said) >= {"torch", "torchscript", "mobile", "lite"}
    for kind, sentence in said.values():
        assert kind == "Unsupported" or "File too large" in sentence
    assert said["torchscript"][1].endswith("File too large; raise the limit on file sizes or choose another disk")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "model.pt": "old",
        "model.ptl": "old",
        "model.safetensors": "old",
    }


def test_old_file_is_replaced(tmp_path):
    (tmp_path / "model.pt").write_text("old")
    write_whole(tmp_path / "model.pt", b"new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("model.pt", "new")]
