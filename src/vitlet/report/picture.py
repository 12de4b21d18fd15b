"""Pictures inside the page itself, as data addresses."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import PIL.Image

#: Longest edge in pixels up to which a picture is stored as it is.
_SMALL = 96


def picture(pixels: bytes, height: int, width: int, longest: int) -> str:
    """uint8 [height, width, 3] as a data address, small enough for a page: exact where it is tiny, else JPEG with at
    most ``longest`` pixels along its longer edge."""
    from PIL import Image

    image = Image.frombytes("RGB", (width, height), pixels)
    if max(image.size) <= min(_SMALL, longest):
        return address(image, "PNG")
    image.thumbnail((longest, longest))
    return address(image, "JPEG", quality=85)


def address(image: PIL.Image.Image, kind: str, **options: int) -> str:
    """The image in this format ("PNG", "JPEG") as a data address."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
