"""The images that come with vitlet."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vitlet.data import samples
from vitlet.errors import NoImages


def test_a_copy_without_images_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(Path(samples.__file__), tmp_path / "samples.py")
    monkeypatch.setattr(samples, "__file__", str(tmp_path / "samples.py"))
    with pytest.raises(NoImages, match="this copy of vitlet was built without its sample images"):
        samples.bundled_images()
    (tmp_path / "samples" / "cat").mkdir(parents=True)
    with pytest.raises(NoImages, match="built without"):
        samples.bundled_images()
    (tmp_path / "samples" / "cat" / "1.png").touch()
    assert samples.bundled_images() == tmp_path / "samples"
