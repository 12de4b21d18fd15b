"""Read one image file, of any common kind and from anyone, into upright 8-bit RGB.

Whatever is wrong with a file ends in one ``UnreadableImage`` that names it. What is read is never
half an image: truncated data is refused. Only what a format has no checksum for can slip through
(bytes changed inside a JPEG), as it does in timm and transformers.

Pixels are those of timm and transformers (see ``colour``), with two deliberate differences to timm:
an EXIF orientation is applied, as transformers' ``load_image`` does, and deep gray is scaled to 8
bits. Of an animation or a multi-page file the first picture is taken. JPEG draft mode (decoding at
reduced size) is not used, because its pixels differ.
"""

from __future__ import annotations

import io
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

from vitlet.data.colour import to_rgb
from vitlet.errors import UnreadableImage

if TYPE_CHECKING:
    import PIL.Image

#: The largest image that is decoded; a small file can claim billions of pixels (a "decompression
#: bomb"). The same number at which PIL itself refuses, unless that was changed.
MAX_PIXELS = 178_956_970
#: The largest file that is read.
MAX_FILE_BYTES = 512 * 2**20
_PIECE_BYTES = 2**20

#: Raster formats only (nothing that runs a program, as EPS does), with PIL's module for each. MPO,
#: the several JPEGs of a phone or stereo camera, comes with JPEG.
_PLUGINS = MappingProxyType(
    {
        "JPEG": "JpegImagePlugin",
        "PNG": "PngImagePlugin",
        "WEBP": "WebPImagePlugin",
        "GIF": "GifImagePlugin",
        "BMP": "BmpImagePlugin",
        "TIFF": "TiffImagePlugin",
        "PPM": "PpmImagePlugin",
        "AVIF": "AvifImagePlugin",
    }
)

_opening = threading.Lock()


def read_image(data: bytes | Path, name: str) -> PIL.Image.Image:
    """Decode ``data`` (a file's bytes, or its path) to an upright image in mode RGB.

    ``name`` is what messages call it.

    Raises:
        UnreadableImage: missing, empty, truncated, broken, too large or no image; says which.
    """
    content = read_bytes(data, name) if isinstance(data, Path) else data
    try:
        if not content:
            raise UnreadableImage("is empty (0 bytes)")
        if len(content) > MAX_FILE_BYTES:
            raise UnreadableImage(f"has {len(content)} bytes; at most {MAX_FILE_BYTES} are read")
        return _decode(content)
    except UnreadableImage as error:
        raise UnreadableImage(f"{name}: {error}") from error
    except Exception as error:  # decoders of hostile bytes raise nearly anything
        raise UnreadableImage(f"{name}: {_reason(error, content)}") from error


def read_bytes(path: Path, name: str, *, limit: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a regular file.

    Raises:
        UnreadableImage: it is missing, no regular file (a pipe could block for ever), not readable
            or larger than ``limit`` bytes.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UnreadableImage(f"{name}: is a folder, not an image file")
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage(f"{name}: is no regular file")
        with path.open("rb") as file:
            return read_stream(file, name, limit=limit)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnreadableImage(f"{name}: cannot be read: {reason}") from error


def read_stream(stream: BinaryIO, name: str, *, limit: int = MAX_FILE_BYTES) -> bytes:
    """All that is left in ``stream``, in pieces: ``read(limit)`` would claim that much memory at once.

    Raises:
        UnreadableImage: it is larger than ``limit`` bytes.
    """
    content = bytearray()
    while piece := stream.read(_PIECE_BYTES):
        content += piece
        if len(content) > limit:
            raise UnreadableImage(f"{name}: has more than {limit} bytes, the most that are read")
    return bytes(content)


def _decode(content: bytes) -> PIL.Image.Image:
    from PIL import Image

    with _quietly():
        image = Image.open(io.BytesIO(content), formats=_formats())
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise UnreadableImage(
                f"has {image.width} x {image.height} pixels; at most {MAX_PIXELS} are decoded, make it smaller"
            )
        if image.format == "TIFF":
            with _quietly():  # its metadata is parsed, and warned about, only now
                image.load()
        else:
            image.load()
        turn = _turn(image)
        rgb = to_rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


def _turn(image: PIL.Image.Image) -> PIL.Image.Transpose | None:
    """What makes a loaded image upright; None if it is, or its EXIF data are broken. (A TIFF has been
    turned by PIL in loading.)
    """
    from PIL import ExifTags, Image

    turns = Image.Transpose
    try:
        with _quietly():
            orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return None
    by_orientation = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }
    return by_orientation.get(orientation) if isinstance(orientation, int) else None


@contextmanager
def _quietly() -> Iterator[None]:
    """Without PIL's warnings about odd metadata and large images (there is a limit of our own).

    The warning filters belong to the whole process. The lock keeps two readers from restoring each
    other's; it is held while headers are parsed, so that pixels (but a TIFF's) decode in parallel.
    """
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def _formats() -> tuple[str, ...]:
    """Those of the allowed formats that this Pillow was built with."""
    from PIL import Image

    for plugin in _PLUGINS.values():
        with suppress(ImportError):
            import_module(f"PIL.{plugin}")
    return tuple(name for name in _PLUGINS if name in Image.OPEN)


def _reason(error: Exception, content: bytes) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        for name in _formats():
            accept = Image.OPEN[name][1]
            if accept is not None and accept(content[:16]) is True:
                return f"is a damaged or truncated {name} file"
        return f"is no image of a known kind ({', '.join(_formats())})"
    if isinstance(error, Image.DecompressionBombError):
        return f"claims more than {MAX_PIXELS} pixels, the most that are decoded"
    if isinstance(error, MemoryError):
        return "does not fit into memory when decoded"
    if "truncated" in str(error):
        return "is truncated"
    return f"is damaged: {error or type(error).__name__}"
