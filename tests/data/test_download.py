"""Where downloads lie, and what is said when there are none."""

from __future__ import annotations

import tarfile
import zlib
from http.client import IncompleteRead
from pathlib import Path

import pytest

from vitlet.data.download import cache_folder, downloading
from vitlet.errors import HubUnreachable


def test_standard_output_is_for_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with downloading("Pets", tmp_path):
        print("Downloading ...")
    print("result")
    assert capsys.readouterr().out == "result\n"


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (OSError(28, "No space left on device"), r"\[Errno 28\] No space left on device"),
        (RuntimeError("File not found\n or corrupted."), r"File not found or corrupted\."),
        (tarfile.ReadError("unexpected end of data"), "unexpected end of data"),
        (zlib.error("Error -3"), "Error -3"),
        (IncompleteRead(b"x", 5), r"IncompleteRead\(1 bytes read, 5 more expected\)"),
        (EOFError(), "EOFError"),
    ],
)
def test_each_way_to_fail_is_one_sentence(raised: Exception, reason: str, tmp_path: Path) -> None:
    message = rf"^Pets is not in {tmp_path} and cannot be downloaded \({reason}\); check the network, or walk$"
    with pytest.raises(HubUnreachable, match=message), downloading("Pets", tmp_path, ", or walk"):
        raise raised


def test_the_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "vitlet" / "datasets"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "vitlet" / "datasets"
