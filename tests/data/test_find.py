"""What a user types, and the images it stands for."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from vitlet.data.find import FileSource, ImageSource, UrlSource, find_images
from vitlet.errors import InvalidValue, NoImages, UnreadableImage

Picture = Callable[..., Image.Image]


def found(*arguments: str | Path, relative_to: Path) -> list[tuple[str, str | None]]:
    """(path below ``relative_to``, label name) of each."""
    return [
        (str(Path(source.name).relative_to(relative_to)), source.label_name)
        for source in find_images([str(argument) for argument in arguments])
    ]


CATS = [(f"cat/{i}.png", "cat") for i in range(3)]
DOGS = [(f"dog/{i}.png", "dog") for i in range(3)]
ALL = [*CATS, *DOGS, ("loose.png", None)]


def test_a_folder_gives_its_images_sorted_with_their_class_folders(class_folders: Path) -> None:
    assert found(class_folders, relative_to=class_folders) == ALL
    assert found(f"{class_folders}/", relative_to=class_folders) == ALL


def test_a_class_folder_named_by_itself_has_no_labels(class_folders: Path) -> None:
    assert found(class_folders / "cat", relative_to=class_folders) == [(name, None) for name, _ in CATS]


def test_arguments_keep_their_order(class_folders: Path) -> None:
    first, second = class_folders / "loose.png", class_folders / "dog" / "1.png"
    assert [source.name for source in find_images([str(first), str(second)])] == [str(first), str(second)]


def test_a_named_file_may_have_any_suffix(class_folders: Path) -> None:
    assert found(class_folders / "notes.txt", relative_to=class_folders) == [("notes.txt", None)]


def test_sources_read_their_bytes(class_folders: Path) -> None:
    (source,) = find_images([str(class_folders / "loose.png")])
    assert source.read() == (class_folders / "loose.png").read_bytes()


@pytest.mark.parametrize("suffix", ["JPG", "jpeg", "Png", "webp", "gif", "bmp", "TIFF", "tif", "ppm", "pgm", "avif"])
def test_suffixes_count_in_any_case(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a.{suffix}").touch()
    assert found(tmp_path, relative_to=tmp_path) == [(f"a.{suffix}", None)]


def test_hidden_files_and_folders_are_passed_over(class_folders: Path) -> None:
    (class_folders / ".hidden.png").touch()
    (class_folders / "cat" / "._0.png").touch()
    (class_folders / ".thumbnails").mkdir()
    (class_folders / ".thumbnails" / "a.png").touch()
    for argument in (class_folders, class_folders / "**", class_folders / "**" / "*.png"):
        assert found(argument, relative_to=class_folders) == ALL


def test_a_hidden_folder_named_by_itself_is_read(tmp_path: Path) -> None:
    (tmp_path / ".mine").mkdir()
    (tmp_path / ".mine" / "a.png").touch()
    assert found(tmp_path / ".mine", relative_to=tmp_path) == [(".mine/a.png", None)]


def test_links_are_followed_and_loops_end(class_folders: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.png").touch()
    (class_folders / "emu").symlink_to(elsewhere)
    (class_folders / "cat" / "up").symlink_to(class_folders)
    (elsewhere / "here").symlink_to(elsewhere)
    (class_folders / "self.png").symlink_to(class_folders / "self.png")
    (class_folders / "zdangling.png").symlink_to(class_folders / "absent.png")
    expected = [
        *CATS,
        *DOGS,
        ("emu/a.png", "emu"),
        ("loose.png", None),
        ("self.png", None),
        ("zdangling.png", None),
    ]
    assert found(class_folders, relative_to=class_folders) == expected
    dangling = find_images([str(class_folders)])[-1]
    with pytest.raises(UnreadableImage, match=r"zdangling\.png: cannot be read: No such file"):
        dangling.read()


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", [("loose.png", None)]),
        ("*", ALL),
        ("**", ALL),
        ("**/*", ALL),
        ("**/*.png", ALL),
        ("*/*.png", [*CATS, *DOGS]),
        ("c?t/[01].png", CATS[:2]),
        ("c*", CATS),
        ("cat/*.png", [(name, None) for name, _ in CATS]),
        ("**/2.png", [CATS[2], DOGS[2]]),
    ],
)
def test_globs(pattern: str, expected: list[tuple[str, str | None]], class_folders: Path) -> None:
    assert found(f"{class_folders}/{pattern}", relative_to=class_folders) == expected


def test_a_glob_is_relative_to_the_working_folder(class_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(class_folders)
    assert [(s.name, s.label_name) for s in find_images(["*/0.png"])] == [("cat/0.png", "cat"), ("dog/0.png", "dog")]
    assert [source.name for source in find_images(["../photos/*.png"])] == ["../photos/loose.png"]


def test_a_quoted_home_is_expanded(class_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(class_folders))
    assert found("~/*.png", relative_to=class_folders) == [("loose.png", None)]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].png").touch()
    (tmp_path / "a1.png").touch()
    assert found(tmp_path / "a[1].png", relative_to=tmp_path) == [("a[1].png", None)]


@pytest.mark.parametrize(
    ("argument", "error", "message"),
    [
        ("absent.jpg", UnreadableImage, r"absent\.jpg: no such file or folder"),
        ("", NoImages, "one of the arguments is empty"),
        ("absent/*.jpg", NoImages, r"absent/\*\.jpg: no image fits this glob"),
        ("*.txt", NoImages, r"\*\.txt: no image fits this glob"),
        ("empty", NoImages, "empty: there are no images in this folder"),
        ("ftp://host/cat.jpg", UnreadableImage, "ftp://host/cat.jpg: is no http or https address"),
        ("zero\0byte", UnreadableImage, "zero\0byte: no such file or folder"),
        ("x" * 5000, UnreadableImage, "cannot be read: .*too long"),
        ("~nobody-of-that-name/a.png", UnreadableImage, "cannot be read: Could not determine home"),
    ],
)
def test_what_cannot_be_found_is_named(
    argument: str, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(error, match=message):
        find_images([argument])


def test_nothing_given() -> None:
    with pytest.raises(NoImages, match="no images were given; name files, folders, globs or addresses"):
        find_images([])


@pytest.fixture
def locked_folder() -> Iterator[Path]:
    """A folder with a sub-folder that this process, root or not, cannot list."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "locked").mkdir(mode=0o000)
        if user == 0:
            os.seteuid(65534)
        try:
            yield root
        finally:
            if user == 0:
                os.seteuid(0)
            (root / "locked").chmod(0o755)


def test_a_folder_that_cannot_be_listed_is_named_not_passed_over(locked_folder: Path) -> None:
    with pytest.raises(UnreadableImage, match="locked: this folder cannot be listed: Permission denied"):
        find_images([str(locked_folder)])


def test_standard_input() -> None:
    (source,) = find_images(["-"], stdin=io.BytesIO(b"bytes"))
    assert source.name == "standard input"
    assert source.label_name is None
    assert source.read() == b"bytes"


def test_the_processs_own_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"piped")))
    assert find_images(["-"])[0].read() == b"piped"
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(NoImages, match="which is closed; pipe a file into it"):
        find_images(["-"])


def test_a_terminal_holds_no_image() -> None:
    master, slave = os.openpty()
    try:
        with open(slave, "rb", buffering=0) as terminal, pytest.raises(NoImages, match="is a terminal; pipe a file"):  # noqa: PTH123
            find_images(["-"], stdin=terminal)
    finally:
        os.close(master)


def test_a_closed_stream_is_named() -> None:
    stream = io.BytesIO(b"x")
    (source,) = find_images(["-"], stdin=stream)
    stream.close()
    with pytest.raises(UnreadableImage, match="standard input: cannot be read: I/O operation on closed file"):
        source.read()


def test_standard_input_twice() -> None:
    with pytest.raises(InvalidValue, match="'-' is given more than once"):
        find_images(["-", "-"], stdin=io.BytesIO())


def test_addresses_are_not_loaded_yet() -> None:
    (source,) = find_images(["HTTPS://user:secret@host.invalid/a.png?x=1"])
    assert isinstance(source, UrlSource)
    assert source.name == "https://host.invalid/a.png?x=1"
    assert source.label_name is None


def test_a_file_called_minus_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").touch()
    sources: tuple[ImageSource, ...] = find_images(["./-"])
    assert sources == (FileSource(Path("./-")),)
