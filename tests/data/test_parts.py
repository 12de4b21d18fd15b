"""Parts follow from the content alone, and each image is in exactly one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitlet.data import named
from vitlet.data.gather import Gathered, Wanted, gather_parts
from vitlet.data.labelled import LabelledFiles, LabelledPixels
from vitlet.data.load import load_images
from vitlet.data.named import load_named
from vitlet.data.parts import SHARES, part_of
from vitlet.errors import EmptyPart, UnreadableImage
from vitlet.records import ImageSpec

SPEC = ImageSpec(12, 12, 14)
LABELS = ("cat", "dog")
PARTS = tuple(SHARES)


def test_shares():
    found = Counter(part_of(number.to_bytes(4, "big")) for number in range(20_000))
    assert {part: found[part] / 20_000 for part in PARTS} == pytest.approx(SHARES, abs=0.015)
    assert sum(SHARES.values()) == pytest.approx(1)


def test_parts_never_change():
    """What was certified must not be calibrated with later: these must stay, whatever the version."""
    assert [part_of(bytes([number])) for number in range(8)] == [
        *("certify", "certify", "certify", "search", "calibrate", "certify", "calibrate", "search")
    ]


@pytest.fixture
def many(tmp_path: Path, picture: Callable[..., Image.Image]) -> Path:
    for number in range(60):
        file = tmp_path / "many" / LABELS[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(seed=number).save(file)
    return tmp_path / "many"


def loaded(folder: Path, into: Path, **options: object) -> dict[str, tuple[str, ...]]:
    return {part: load_images([str(folder)], SPEC, LABELS, into / part, part=part, **options).names for part in PARTS}


def test_each_image_is_in_one_part(many: Path, tmp_path: Path) -> None:
    found = loaded(many, tmp_path)
    names = [name for part in PARTS for name in found[part]]
    assert len(names) == len(set(names)) == 60


def test_more_images_move_none_and_copies_stay_together(
    many: Path, tmp_path: Path, picture: Callable[..., Image.Image]
) -> None:
    before = loaded(many, tmp_path / "before")
    for number in range(60, 90):
        picture(seed=number).save(many / "cat" / f"{number}.png")
    copies = {name: many / "dog" / f"copy-of-{Path(name).name}" for names in before.values() for name in names[:2]}
    for name, copy in copies.items():
        copy.write_bytes(Path(name).read_bytes())
    after = loaded(many, tmp_path / "after")
    for part in PARTS:
        assert set(before[part]) <= set(after[part])
        assert {str(copies[name]) for name in before[part][:2]} <= set(after[part])


def test_a_limit_counts_only_images_of_the_part(many: Path, tmp_path: Path) -> None:
    found = loaded(many, tmp_path, limit=3)
    assert {part: len(names) for part, names in found.items()} == dict.fromkeys(PARTS, 3)
    every = loaded(many, tmp_path / "every")
    assert all(set(found[part]) <= set(every[part]) for part in PARTS)


def test_no_image_in_a_part(many: Path, tmp_path: Path) -> None:
    one = next(path for path in sorted(many.rglob("*.png")) if part_of(path.read_bytes()) != "calibrate")
    with pytest.raises(EmptyPart, match="none of the 1 images falls to the part to calibrate with, which 15% do"):
        load_images([str(one)], SPEC, LABELS, tmp_path, part="calibrate")


def test_parts_of_a_named_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 12, 12), dtype=np.uint8)
    data = LabelledPixels(pixels, np.zeros(40, np.int64), LABELS)
    monkeypatch.setattr(named, "load_dataset", lambda name, split: data)
    whole = load_named("torchvision:FashionMNIST", SPEC, LABELS, tmp_path)
    parts = [load_named("torchvision:FashionMNIST", SPEC, LABELS, tmp_path / part, part=part) for part in PARTS]
    assert sorted(name for part in parts for name in part.names) == sorted(whole.names)
    limited = load_named("torchvision:FashionMNIST", SPEC, LABELS, tmp_path / "few", part="certify", limit=4)
    assert limited.count == 4
    assert set(limited.names) <= set(parts[PARTS.index("certify")].names)


def test_content_of_pixels_and_files(many: Path, tmp_path: Path) -> None:
    pixels = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)
    assert LabelledPixels(pixels, np.zeros(2, np.int64), LABELS).content(1) == bytes(range(16, 32))
    files = LabelledFiles(("cat/0.png", "cat/none.png"), np.zeros(2, np.int64), LABELS, many)
    assert files.content(0) == (many / "cat" / "0.png").read_bytes()
    with pytest.raises(UnreadableImage, match=r"none\.png"):
        files.content(1)


def test_gathered_in_parts_no_image_serves_twice(many: Path, tmp_path: Path) -> None:
    found = gather_parts(Wanted([many]), SPEC, LABELS, tmp_path / "work", calibrated=True)
    search, calibration, certify = found.images, found.calibration, found.to_certify
    assert search is not None
    assert calibration is not None
    assert certify is not None
    parts = [tuple(np.load(path)) for path in (search.pixels_path, calibration.pixels_path, certify.pixels_path)]
    pixels = [image.tobytes() for part in parts for image in part]
    assert len(pixels) == len(set(pixels)) == 60
    assert len(calibration) == len(parts[1])
    assert {part_of(Path(name).read_bytes()) for name in search.names} == {"search"}
    assert {part_of(Path(name).read_bytes()) for name in certify.names} == {"certify"}


def test_gathered_with_limits_and_images_named_to_calibrate_with(many: Path, tmp_path: Path) -> None:
    wanted = Wanted([many / "cat"], [many / "dog"], limit=4, certify_limit=7)
    found = gather_parts(wanted, SPEC, LABELS, tmp_path / "work", calibrated=True)
    search, calibration, certify = found.images, found.calibration, found.to_certify
    assert search is not None
    assert calibration is not None
    assert certify is not None
    assert (search.count, len(calibration), certify.count) == (4, 30, 7)


def test_too_few_images_to_part_serve_as_they_did(many: Path, tmp_path: Path) -> None:
    few = [path for path in sorted(many.rglob("*.png")) if part_of(path.read_bytes()) == "certify"][:5]
    found = gather_parts(Wanted(few), SPEC, LABELS, tmp_path / "work", calibrated=True)
    search, calibration, certify = found.images, found.calibration, found.to_certify
    assert certify is None
    assert search is not None
    assert calibration is not None
    assert search.count + len(calibration) == 5


def test_nothing_to_gather(tmp_path: Path) -> None:
    assert gather_parts(Wanted(), SPEC, LABELS, tmp_path) == Gathered(None)
