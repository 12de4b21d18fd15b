"""Gray with more than 8 bits, which PIL's own conversion clips to white."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from vitlet.data.colour import to_rgb
from vitlet.data.read import read_image
from vitlet.errors import UnreadableImage

Encode = Callable[..., bytes]

RAMP = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)  # 257 * i: byte i in 16 bits
BYTES = np.arange(256, dtype=np.uint8).reshape(16, 16)


def gray(content: bytes) -> np.ndarray:
    array = np.asarray(read_image(content, "it"))
    assert (array[..., 0] == array[..., 1]).all()
    assert (array[..., 0] == array[..., 2]).all()
    return array[..., 0]


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("PPM", {})]
)
def test_16_bit_gray_is_scaled(kind: str, options: dict[str, str], encode: Encode) -> None:
    content = encode(Image.fromarray(RAMP), kind, **options)
    clipped = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
    assert (clipped == 255).mean() > 0.99  # what PIL alone makes of it
    np.testing.assert_array_equal(gray(content), BYTES)


def test_big_endian_16_bit_tiff(encode: Encode) -> None:
    content = encode(Image.frombytes("I;16B", (16, 16), RAMP.astype(">u2").tobytes()), "TIFF")
    assert content[:2] == b"MM"
    np.testing.assert_array_equal(gray(content), BYTES)


def test_16_bit_gray_is_the_same_as_16_bit_colour(png: Encode) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 65536, (16, 16)).astype(">u2")
    colour = np.repeat(values[..., None], 3, axis=2)
    as_gray = png(16, 16, 16, 0, b"".join(b"\0" + row.tobytes() for row in values))
    as_colour = png(16, 16, 16, 2, b"".join(b"\0" + row.tobytes() for row in colour))
    np.testing.assert_array_equal(np.asarray(read_image(as_gray, "it")), np.asarray(read_image(as_colour, "it")))


@pytest.mark.parametrize(("depth", "levels"), [(1, 2), (2, 4), (4, 16)])
def test_gray_of_fewer_bits_reaches_white(depth: int, levels: int, png: Encode) -> None:
    packed = np.packbits(np.unpackbits(np.arange(levels, dtype=np.uint8)[:, None], axis=1)[:, 8 - depth :].ravel())
    content = png(levels, 1, depth, 0, b"\0" + packed.tobytes())
    np.testing.assert_array_equal(gray(content)[0], np.arange(levels) * 255 // (levels - 1))


def test_12_bit_tiff_is_scaled_by_its_own_white() -> None:
    """Pillow reads 12-bit TIFFs but writes none: by hand, TIFF 6.0, two pixels in three bytes."""
    values = (np.arange(256) * 4095 // 255).reshape(-1, 2)
    strip = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in values.tolist())
    np.testing.assert_array_equal(gray(_tiff(16, 16, strip, {258: 12, 262: 1})), BYTES)


def test_a_tiff_whose_white_is_zero_is_inverted() -> None:
    strip = RAMP.astype("<u2").tobytes()
    np.testing.assert_array_equal(gray(_tiff(16, 16, strip, {258: 16, 262: 0})), 255 - BYTES)


def _tiff(width: int, height: int, strip: bytes, tags: dict[int, int]) -> bytes:
    """A little-endian TIFF of one uncompressed strip."""
    entries = {256: width, 257: height, 259: 1, 273: 0, 277: 1, 278: height, 279: len(strip), **tags}
    entries[273] = 8 + 2 + 12 * len(entries) + 4
    directory = b"".join(
        tag.to_bytes(2, "little") + b"\x04\0\x01\0\0\0" + value.to_bytes(4, "little")
        for tag, value in sorted(entries.items())
    )
    return b"II*\0\x08\0\0\0" + len(entries).to_bytes(2, "little") + directory + b"\0\0\0\0" + strip


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_float_gray_is_scaled_by_the_white_that_holds_it(white: float, encode: Encode) -> None:
    content = encode(Image.fromarray((BYTES / 255 * white).astype(np.float32)), "TIFF")
    np.testing.assert_array_equal(gray(content), BYTES)


@pytest.mark.parametrize(("white", "values"), [(255, BYTES), (65535, RAMP)])
def test_32_bit_integers_are_scaled_by_the_white_that_holds_them(
    white: int, values: np.ndarray, encode: Encode
) -> None:
    assert values.max() == white
    np.testing.assert_array_equal(gray(encode(Image.fromarray(values.astype(np.int32)), "TIFF")), BYTES)


def test_a_dark_16_bit_pgm_stays_dark(encode: Encode) -> None:
    # Its header says 65535, so a greatest value of 200 is nearly black, not nearly white.
    dark = np.full((4, 4), 200, np.uint16)
    assert gray(encode(Image.fromarray(dark), "PPM")).max() == 1


@pytest.mark.parametrize(
    ("values", "span"),
    [
        (np.array([[-1.0, 0.5]], np.float32), "from -1 to 0.5"),
        (np.array([[0.0, 1e6]], np.float32), r"from 0 to 1e\+06"),
        (np.array([[0.0, np.nan]], np.float32), "from nan to nan"),
        (np.array([[0, 70000]], np.int32), "from 0 to 70000"),
        (np.array([[-5, 100]], np.int32), "from -5 to 100"),
    ],
)
def test_an_unknown_white_is_refused_not_guessed(values: np.ndarray, span: str, encode: Encode) -> None:
    with pytest.raises(UnreadableImage, match=f"it: its 32-bit values run {span}, so which one is white is unknown"):
        read_image(encode(Image.fromarray(values), "TIFF"), "it")


def test_to_rgb_leaves_the_callers_image() -> None:
    image = Image.new("P", (4, 4))
    image.info["transparency"] = bytes([0] * 256)
    assert to_rgb(image).mode == "RGB"
    assert image.mode == "P"
    assert "transparency" in image.info
    rgb = Image.new("RGB", (4, 4))
    assert to_rgb(rgb) is not rgb


def test_pillow_still_calls_tags_by_these_numbers() -> None:
    assert (TiffImagePlugin.BITSPERSAMPLE, TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == (258, 262)
