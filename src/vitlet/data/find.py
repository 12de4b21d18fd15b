"""From what a user typed (files, folders, globs, ``-``, addresses) to the images it stands for.

Nothing is decoded or downloaded here; a source knows where its bytes are and reads them when asked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from vitlet.data.fetch import FetchLimits, display_url, fetch, is_url
from vitlet.data.read import read_bytes, read_stream
from vitlet.errors import InvalidValue, NoImages, UnreadableImage

#: What counts as an image in a folder or glob; a file that is named itself may have any suffix.
IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".gif", ".bmp"),
        *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    )
)

STANDARD_INPUT = "standard input"


class ImageSource(Protocol):
    """One image that was found. ``label_name`` is the name of the class folder it lies in, if any."""

    @property
    def name(self) -> str: ...

    @property
    def label_name(self) -> str | None: ...

    def read(self) -> bytes:
        """The encoded bytes.

        Raises:
            UnreadableImage: they cannot be had.
        """
        ...


@dataclass(frozen=True)
class FileSource:
    """A file, called by its path as the user would type it."""

    path: Path
    label_name: str | None = None

    @property
    def name(self) -> str:
        return str(self.path)

    def read(self) -> bytes:
        return read_bytes(self.path, self.name)


@dataclass(frozen=True)
class UrlSource:
    """An http(s) address; loaded anew at each ``read``."""

    url: str
    limits: FetchLimits = field(default_factory=FetchLimits)
    label_name: None = None

    @property
    def name(self) -> str:
        return display_url(self.url)

    def read(self) -> bytes:
        return fetch(self.url, self.limits)


@dataclass(frozen=True)
class StreamSource:
    """Standard input, which can be read once."""

    stream: BinaryIO
    name: str = STANDARD_INPUT
    label_name: None = None

    def read(self) -> bytes:
        try:
            return read_stream(self.stream, self.name)
        except (OSError, ValueError) as error:
            raise UnreadableImage(f"{self.name}: cannot be read: {error}") from error


def find_images(
    arguments: Sequence[str],
    *,
    stdin: BinaryIO | None = None,
    limits: FetchLimits | None = None,
) -> tuple[ImageSource, ...]:
    """Every image that ``arguments`` stand for, in their order, each one's images sorted by path.

    - a file: itself, whatever its suffix;
    - a folder: every image below it, by suffix; hidden files and folders are passed over, links to
      folders are followed, once each. An image in a sub-folder has that folder's name as label;
    - a glob (``"photos/*.jpg"``, ``**`` for any depth), unless a file has this very name: every
      image that fits, and every image below a folder that fits;
    - ``-``: the bytes of one image on standard input (``stdin``, or the process's own);
    - an http or https address.

    Raises:
        NoImages: no arguments, an empty folder, or a glob that nothing fits.
        UnreadableImage: a path does not exist or a folder cannot be listed.
        InvalidValue: ``-`` twice.
    """
    if not arguments:
        raise NoImages("no images were given; name files, folders, globs or addresses, or - for standard input")
    if list(arguments).count("-") > 1:
        raise InvalidValue("'-' is given more than once, but standard input holds one image")
    found: list[ImageSource] = []
    for argument in arguments:
        if argument == "-":
            found.append(_standard_input(stdin))
        elif is_url(argument):
            found.append(UrlSource(argument, limits or FetchLimits()))
        else:
            found += _on_disk(argument)
    return tuple(found)


def path_at(text: str) -> Path | None:
    """The path that a user typed (``~`` is their home) if something is there, ``None`` if not or if it is no path."""
    try:
        path = Path(text).expanduser()
        return path if text and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long a name, a zero byte, no such home
        return None


def _standard_input(stdin: BinaryIO | None) -> StreamSource:
    if stdin is None and sys.stdin is None:
        raise NoImages("'-' reads an image from standard input, which is closed; pipe a file into it")
    stream = sys.stdin.buffer if stdin is None else stdin
    if stream.isatty():
        raise NoImages("'-' reads an image from standard input, which is a terminal; pipe a file into it")
    return StreamSource(stream)


def _on_disk(argument: str) -> list[FileSource]:
    if not argument:
        raise NoImages("one of the arguments is empty; name a file, folder, glob or address")
    try:
        path = Path(argument).expanduser()
        if path.is_dir():
            found = list(images_below(path, path, set()))
            if not found:
                raise NoImages(f"{argument}: there are no images in this folder (files such as .jpg or .png)")
            return found
        if path.exists() or path.is_symlink():
            return [FileSource(path)]
        if _has_magic(argument):
            return _fitting(argument, path)
    except (OSError, ValueError, RuntimeError) as error:  # too long a name, a zero byte, no such home
        raise UnreadableImage(f"{argument!r}: cannot be read: {error}") from error
    if "://" in argument:
        raise UnreadableImage(f"{argument}: is no http or https address, and no such file exists")
    raise UnreadableImage(f"{argument}: no such file or folder")


def _has_magic(text: str) -> bool:
    return any(character in text for character in "*?[")


def images_below(folder: Path, root: Path, seen: set[tuple[int, int]]) -> Iterator[FileSource]:
    """The images in ``folder`` and below, sorted; each is labelled by the folder it lies in, those directly in
    ``root`` are not. ``seen`` holds the folders that were entered, so that links are followed once.

    Raises:
        UnreadableImage: a folder cannot be listed.
    """
    try:
        status = folder.stat()
    except OSError as error:
        raise _not_listed(folder, error) from error
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    label_name = None if folder == root else folder.name
    for name, is_folder in _listing(folder):
        if is_folder:
            yield from images_below(folder / name, root, seen)
        elif Path(name).suffix.lower() in IMAGE_SUFFIXES:
            yield FileSource(folder / name, label_name)


def folders_in(folder: Path) -> list[str]:
    """The names of the sub-folders, sorted, without the hidden ones.

    Raises:
        UnreadableImage: the folder cannot be listed.
    """
    return [name for name, is_folder in _listing(folder) if is_folder]


def _listing(folder: Path) -> list[tuple[str, bool]]:
    """What is in a folder and not hidden, sorted; each with whether it is a folder (or a link to one)."""
    try:
        with os.scandir(folder) as listing:
            return sorted((entry.name, _is_folder(entry)) for entry in listing if not entry.name.startswith("."))
    except OSError as error:
        raise _not_listed(folder, error) from error


def _not_listed(folder: Path, error: OSError) -> UnreadableImage:
    return UnreadableImage(f"{folder}: this folder cannot be listed: {error.strerror}")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _fitting(argument: str, pattern: Path) -> list[FileSource]:
    """The images that a glob stands for; the path before its first wildcard is their root."""
    fixed = 0
    while not _has_magic(pattern.parts[fixed]):
        fixed += 1
    root = Path(*pattern.parts[:fixed])
    try:
        matches = sorted(root.glob(str(Path(*pattern.parts[fixed:]))))
    except (ValueError, NotImplementedError) as error:
        raise UnreadableImage(f"{argument}: is no valid glob: {error}") from error
    found: dict[Path, FileSource] = {}  # ** finds a file by itself and below its folder
    seen: set[tuple[int, int]] = set()
    for path in matches:
        if any(part.startswith(".") and part != ".." for part in path.relative_to(root).parts):
            continue
        if path.is_dir():
            found.update((source.path, source) for source in images_below(path, root, seen))
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            found[path] = FileSource(path, None if path.parent == root else path.parent.name)
    if not found:
        raise NoImages(f"{argument}: no image fits this glob")
    return [found[path] for path in sorted(found)]
