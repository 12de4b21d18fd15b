"""From arguments to an ImageSet on disk."""

from __future__ import annotations

import hashlib
import io
import resource
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitlet.data.imageset import ImageSet, Skipped
from vitlet.data.load import load_images
from vitlet.data.pixel_file import PixelWriter
from vitlet.data.preprocess import crop_pixels, preprocess
from vitlet.errors import InvalidValue, NoImages, NotWritable, UnreadableImage
from vitlet.records import ImageSpec, Progress

Picture = Callable[..., Image.Image]
Encode = Callable[..., bytes]

SPEC = ImageSpec(12, 12, 14)
LABELS = ("Dog", "Cat", "Emu")


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def load(*arguments: str | Path, into: Path, **options: object) -> ImageSet:
    return load_images([str(argument) for argument in arguments], SPEC, LABELS, into, **options)  # type: ignore[arg-type]


def test_pixels_names_labels_and_digest(class_folders: Path, tmp_path: Path, picture: Picture) -> None:
    images = load(class_folders, into=tmp_path / "work" / "deep")
    assert images.count == 7
    assert images.labelled == 6
    assert images.labels == (1, 1, 1, 0, 0, 0, -1)
    assert [Path(name).name for name in images.names] == ["0.png", "1.png", "2.png"] * 2 + ["loose.png"]
    assert images.skipped == ()
    assert images.note == ""
    pixels = np.load(images.pixels_path, allow_pickle=False)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (7, 12, 12, 3))
    expected = [picture(seed=seed) for seed in (0, 1, 2, 10, 11, 12, 99)]
    np.testing.assert_array_equal(pixels, [crop_pixels(image, SPEC) for image in expected])
    assert images.digest == hashlib.sha256(pixels.tobytes()).hexdigest()
    assert names_in(tmp_path / "work" / "deep") == ["pixels.npy"]


def test_batches_are_the_models_input(class_folders: Path, tmp_path: Path, picture: Picture) -> None:
    images = load(class_folders, into=tmp_path)
    batches = list(images.batches(3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    np.testing.assert_array_equal(batches[0][0], preprocess(picture(seed=0), SPEC))


def test_many_images_fit_the_header_that_was_written_for_none(tmp_path: Path, picture: Picture) -> None:
    path = tmp_path / "loose.png"
    picture().save(path)
    images = load(*[path] * 1234, into=tmp_path)
    assert np.load(images.pixels_path, mmap_mode="r").shape == (1234, 12, 12, 3)


def test_broken_files_are_skipped_and_named(class_folders: Path, tmp_path: Path) -> None:
    (class_folders / "cat" / "0.png").write_bytes(b"")
    (class_folders / "dog" / "2.png").write_bytes((class_folders / "dog" / "1.png").read_bytes()[:99])
    images = load(class_folders, into=tmp_path)
    assert images.labels == (1, 1, 0, 0, -1)
    assert images.skipped == (
        Skipped(str(class_folders / "cat" / "0.png"), "is empty (0 bytes)"),
        Skipped(str(class_folders / "dog" / "2.png"), "is truncated"),
    )
    assert np.load(images.pixels_path).shape[0] == 5


def test_an_image_too_thin_to_resize_is_skipped(tmp_path: Path, picture: Picture) -> None:
    picture().save(tmp_path / "a.png")
    Image.new("L", (1, 60_000)).save(tmp_path / "b.png")
    images = load_images([str(tmp_path)], ImageSpec(224, 224, 256), LABELS, tmp_path / "work")
    assert images.count == 1
    assert images.skipped[0].reason.startswith("1 x 60000 pixels is too long and thin")


def test_nothing_readable_says_what_was_skipped(class_folders: Path, tmp_path: Path) -> None:
    paths = sorted(class_folders.rglob("*.png"))
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(NoImages, match=r"none of the 7 images could be read: .*empty.*; and 4 more"):
        load(class_folders, into=tmp_path / "work")
    with pytest.raises(NoImages, match=r"the only image could not be read: .*0\.png: is empty"):
        load(paths[0], into=tmp_path / "work")
    assert names_in(tmp_path / "work") == []


def test_what_does_not_exist_is_an_error_before_anything_is_written(class_folders: Path, tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="absent: no such file or folder"):
        load(class_folders, class_folders / "absent", into=tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_folders_that_match_no_label_are_in_the_note(class_folders: Path, tmp_path: Path) -> None:
    (class_folders / "cat").rename(class_folders / "holiday")
    images = load(class_folders, into=tmp_path)
    assert images.labels == (0, 0, 0, -1, -1, -1, -1)
    assert images.note.startswith("1 of the 2 class folders could not be matched to one label of the model (holiday)")


@pytest.fixture
def many(tmp_path: Path, picture: Picture) -> Path:
    """40 cats, 10 dogs, 3 emus."""
    for label, count in (("cat", 40), ("dog", 10), ("emu", 3)):
        (tmp_path / "many" / label).mkdir(parents=True)
        for index in range(count):
            picture(8, 8, index).save(tmp_path / "many" / label / f"{index:02}.png")
    return tmp_path / "many"


def test_a_limit_takes_an_even_sample(many: Path, tmp_path: Path) -> None:
    counted = Counter(load(many, into=tmp_path / "w", limit=9).labels)
    assert counted == {0: 3, 1: 3, 2: 3}
    counted = Counter(load(many, into=tmp_path / "w", limit=15).labels)
    assert counted == {0: 6, 1: 6, 2: 3}
    assert sorted(Counter(load(many, into=tmp_path / "w", limit=2).labels).values()) == [1, 1]


def test_a_limit_takes_the_same_images_for_a_seed(many: Path, tmp_path: Path) -> None:
    first = load(many, into=tmp_path / "a", limit=9, seed=1)
    again = load(many, into=tmp_path / "b", limit=9, seed=1)
    other = load(many, into=tmp_path / "c", limit=9, seed=2)
    assert (first.names, first.digest) == (again.names, again.digest)
    assert first.names != other.names
    assert set(load(many, into=tmp_path / "d", limit=6, seed=1).names) < set(first.names)


def test_no_folder_is_always_first(many: Path, tmp_path: Path) -> None:
    first = {load(many, into=tmp_path / "w", limit=1, seed=seed).labels[0] for seed in range(12)}
    assert first == {0, 1, 2}


def test_a_limit_that_is_not_reached_changes_nothing(many: Path, tmp_path: Path) -> None:
    assert load(many, into=tmp_path / "a", limit=53).names == load(many, into=tmp_path / "b").names
    assert load(many, into=tmp_path / "c", limit=1000).count == 53


def test_a_broken_image_is_replaced_within_the_limit(many: Path, tmp_path: Path) -> None:
    for path in sorted((many / "dog").iterdir())[:7]:
        path.write_bytes(b"")
    images = load(many, into=tmp_path / "w", limit=9)
    assert images.count == 9
    assert Counter(images.labels)[0] <= 3


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_one(limit: int, many: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=f"limit is {limit}; it must be 1 or more images"):
        load(many, into=tmp_path / "w", limit=limit)


def test_it_leaves_the_random_state_of_the_process(many: Path, tmp_path: Path) -> None:
    import random

    random.seed(5)
    expected = random.random()
    random.seed(5)
    load(many, into=tmp_path / "w", limit=5)
    assert random.random() == expected


def test_progress_ends_with_all_done(class_folders: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    load(class_folders, into=tmp_path, progress=seen.append)
    assert seen[0] == Progress("images", str(class_folders / "cat" / "0.png"), 0, 7)
    assert seen[-1] == Progress("images", "", 7, 7)
    assert [step.done for step in seen] == sorted(step.done for step in seen)


def test_standard_input_and_addresses(server: str, tmp_path: Path, encode: Encode, picture: Picture) -> None:
    images = load(
        "-", f"{server}/image", f"{server}/absent", into=tmp_path, stdin=io.BytesIO(encode(picture(seed=3), "PNG"))
    )
    assert images.names == ("standard input", f"{server}/image")
    assert images.skipped == (Skipped(f"{server}/absent", "the server answered 404 Not Found"),)
    np.testing.assert_array_equal(np.load(images.pixels_path)[0], crop_pixels(picture(seed=3), SPEC))


def test_memory_does_not_grow_with_the_images(tmp_path: Path, picture: Picture) -> None:
    path = tmp_path / "loose.png"
    picture().save(path)
    spec = ImageSpec(128, 128, 128)  # 48 KiB an image
    load_images([str(path)], spec, LABELS, tmp_path / "warm")
    tracemalloc.start()
    load_images([str(path)] * 200, spec, LABELS, tmp_path / "work")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "work" / "pixels.npy").stat().st_size > 9_000_000
    assert peak < 2_000_000


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """The operating system refuses to let any file of this process grow larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size_bytes", [0, 100, 2000])
def test_a_file_that_cannot_grow_leaves_nothing(size_bytes: int, class_folders: Path, tmp_path: Path) -> None:
    with (
        largest_file(size_bytes),
        pytest.raises(NotWritable, match=r"pixels\.npy: the images cannot be written: File too large; free space"),
    ):
        load(class_folders, into=tmp_path / "work")
    assert names_in(tmp_path / "work") == []


def test_a_full_disk(class_folders: Path, tmp_path: Path) -> None:
    (tmp_path / "pixels.npy.part").symlink_to("/dev/full")
    with pytest.raises(NotWritable, match=r"pixels\.npy: the images cannot be written: No space left on device"):
        load(class_folders, into=tmp_path)
    assert not (tmp_path / "pixels.npy").exists()


def test_a_folder_that_is_a_file(class_folders: Path, tmp_path: Path) -> None:
    with pytest.raises(NotWritable, match=r"the images cannot be written: (File exists|Not a directory)"):
        load(class_folders, into=class_folders / "notes.txt")


def test_an_interrupt_leaves_nothing_and_an_older_set_alone(class_folders: Path, tmp_path: Path) -> None:
    before = load(class_folders, into=tmp_path / "work").pixels_path.read_bytes()

    def interrupt(step: Progress) -> None:
        if step.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(class_folders / "cat", class_folders / "dog", into=tmp_path / "work", progress=interrupt)
    assert names_in(tmp_path / "work") == ["pixels.npy"]
    assert (tmp_path / "work" / "pixels.npy").read_bytes() == before


def test_the_writer_takes_only_its_own_shape(tmp_path: Path) -> None:
    for pixels in (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(ValueError, match="do not fit"), PixelWriter(tmp_path / "a.npy", 4, 4) as writer:
            writer.append(pixels)
