"""Files of every kind, made here by Pillow and by hand: the right pixels, or one UnreadableImage."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms

from vitlet.data import read
from vitlet.data.read import MAX_PIXELS, read_bytes, read_image, read_stream
from vitlet.errors import UnreadableImage

Encode = Callable[..., bytes]
Picture = Callable[..., Image.Image]

LOSSLESS = [
    ("PNG", {}),
    ("PNG", {"optimize": True, "compress_level": 9}),
    ("WEBP", {"lossless": True}),
    ("BMP", {}),
    ("PPM", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_deflate"}),
    ("TIFF", {"compression": "packbits"}),
]
LOSSY = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True, "quality": 95}),
    ("JPEG", {"subsampling": 0}),
    ("MPO", {}),
    ("WEBP", {}),
    ("AVIF", {}),
    ("GIF", {}),
    ("TIFF", {"compression": "jpeg"}),
]


def as_libraries_do(content: bytes) -> np.ndarray:
    """timm's ImageDataset and transformers' load_image, for upright images."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def pixels(content: bytes) -> np.ndarray:
    image = read_image(content, "it")
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
def test_lossless_kinds_give_the_very_pixels(
    kind: str, options: dict[str, Any], encode: Encode, picture: Picture
) -> None:
    np.testing.assert_array_equal(pixels(encode(picture(), kind, **options)), np.asarray(picture()))


@pytest.mark.parametrize(("kind", "options"), LOSSY)
def test_lossy_kinds_give_the_libraries_pixels(
    kind: str, options: dict[str, Any], encode: Encode, picture: Picture
) -> None:
    content = encode(picture(33, 21), kind, **options)
    np.testing.assert_array_equal(pixels(content), as_libraries_do(content))


def read_or_refuse(content: bytes) -> Image.Image | None:
    """The image, or None where it is refused in the one way allowed."""
    try:
        return read_image(content, "it")
    except UnreadableImage:
        return None


WRITABLE = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA"),
    "JPEG": ("1", "L", "RGB", "CMYK", "YCbCr"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"),
    "WEBP": ("L", "P", "RGB", "RGBA"),
    "GIF": ("1", "L", "P", "RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "PPM": ("1", "L", "RGB", "RGBA"),
    "AVIF": ("L", "RGB", "RGBA"),
}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in WRITABLE.items() for mode in modes])
def test_every_mode_gives_the_libraries_pixels(kind: str, mode: str, encode: Encode, picture: Picture) -> None:
    image = Image.new("LAB", (24, 16), (120, 30, 200)) if mode == "LAB" else picture().convert(mode)
    content = encode(image, kind)
    np.testing.assert_array_equal(pixels(content), as_libraries_do(content))


def test_gray_is_repeated(encode: Encode, picture: Picture) -> None:
    gray = picture().convert("L")
    np.testing.assert_array_equal(pixels(encode(gray, "PNG")), np.repeat(np.asarray(gray)[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_dropped_not_blended(kind: str, encode: Encode, picture: Picture) -> None:
    image = picture().convert("RGBA")
    image.putalpha(Image.fromarray(np.arange(24 * 16, dtype=np.uint16).astype(np.uint8).reshape(16, 24)))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(pixels(encode(image, kind, **options)), np.asarray(picture()))


@pytest.mark.parametrize(("kind", "transparency"), [("PNG", 5), ("PNG", bytes(range(0, 256, 2))), ("GIF", 5)])
def test_a_transparent_palette_keeps_its_colours_and_warns_of_nothing(
    kind: str, transparency: int | bytes, encode: Encode, picture: Picture
) -> None:
    image = picture().quantize(64)
    content = encode(image, kind, transparency=transparency)
    np.testing.assert_array_equal(pixels(content), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF-LZW", "AVIF", "MPO"])
def test_exif_orientation_makes_the_image_upright(
    kind: str, orientation: int, encode: Encode, picture: Picture
) -> None:
    kind, _, compression = kind.partition("-")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    if compression:
        options["compression"] = "tiff_lzw"
    stored = picture(24, 16)
    got = pixels(encode(stored, kind, exif=exif, **options))
    # The EXIF specification (CIPA DC-008, "Orientation"): where the stored row 0 and column 0 are seen.
    array = pixels(encode(stored, kind, **options))
    upright = {
        1: array,  # top, left
        2: array[:, ::-1],  # top, right
        3: array[::-1, ::-1],  # bottom, right
        4: array[::-1],  # bottom, left
        5: array.transpose(1, 0, 2),  # left, top
        6: array.transpose(1, 0, 2)[:, ::-1],  # right, top
        7: array.transpose(1, 0, 2)[::-1, ::-1],  # right, bottom
        8: array.transpose(1, 0, 2)[::-1],  # left, bottom
    }[orientation]
    np.testing.assert_array_equal(got, upright)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0garbage", b"Exif\0\0II*\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x09"],
)
def test_broken_exif_is_passed_over(kind: str, exif: bytes, encode: Encode, picture: Picture) -> None:
    np.testing.assert_array_equal(pixels(encode(picture(), kind, exif=exif)), pixels(encode(picture(), kind)))


def test_an_unknown_orientation_is_passed_over(encode: Encode, picture: Picture) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 77
    assert pixels(encode(picture(), "JPEG", exif=exif)).shape == (16, 24, 3)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "TIFF", "MPO"])
def test_of_several_pictures_the_first_is_taken(kind: str, encode: Encode, picture: Picture) -> None:
    frames = [picture(24, 16, seed).quantize(32).convert("RGB") for seed in range(3)]
    options = {"lossless": True} if kind == "WEBP" else {}
    several = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert getattr(Image.open(io.BytesIO(several)), "n_frames", 1) == 3
    np.testing.assert_array_equal(pixels(several), as_libraries_do(several))
    if kind in ("GIF", "PNG", "WEBP", "TIFF"):
        np.testing.assert_array_equal(pixels(several), np.asarray(frames[0]))


def test_cmyk_and_ycck_are_converted_as_the_libraries_do(encode: Encode, picture: Picture) -> None:
    cmyk = picture().convert("CMYK")
    for content in (encode(cmyk, "JPEG"), encode(cmyk, "TIFF"), _ycck(encode(cmyk, "JPEG", quality=95))):
        assert Image.open(io.BytesIO(content)).mode == "CMYK"
        np.testing.assert_array_equal(pixels(content), as_libraries_do(content))


def _ycck(jpeg: bytes) -> bytes:
    """Say in the Adobe marker that the four channels are YCCK."""
    at = jpeg.index(b"Adobe")
    return jpeg[: at + 11] + b"\x02" + jpeg[at + 12 :]


def test_an_icc_profile_is_ignored(encode: Encode, picture: Picture) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    np.testing.assert_array_equal(pixels(encode(picture(), "PNG", icc_profile=profile)), np.asarray(picture()))


@pytest.mark.parametrize(("kind", "options"), LOSSLESS + LOSSY)
def test_a_truncated_file_is_refused_or_complete(
    kind: str, options: dict[str, Any], encode: Encode, picture: Picture
) -> None:
    """Cut anywhere: never half an image. (What is cut after the last pixel may still be read.)"""
    whole = encode(picture(), kind, **options)
    expected = pixels(whole)
    refused = 0
    for length in sorted({*range(0, len(whole), max(1, len(whole) // 150)), *range(len(whole) - 16, len(whole))}):
        got = read_or_refuse(whole[:length])
        if got is None:
            refused += 1
        else:
            np.testing.assert_array_equal(np.asarray(got), expected)
    assert refused > 140


def test_a_truncated_file_is_called_so(encode: Encode, picture: Picture) -> None:
    whole = encode(picture(100, 100), "JPEG")
    with pytest.raises(UnreadableImage, match=r"^cat\.jpg: is truncated$"):
        read_image(whole[: len(whole) // 2], "cat.jpg")
    with pytest.raises(UnreadableImage, match=r"^cat\.jpg: is a damaged or truncated JPEG file$"):
        read_image(whole[:20], "cat.jpg")
    with pytest.raises(UnreadableImage, match=r"^cat\.jpg: is empty \(0 bytes\)$"):
        read_image(b"", "cat.jpg")


def test_changed_bytes_of_a_png_are_noticed(encode: Encode, picture: Picture) -> None:
    whole = bytearray(encode(picture(), "PNG"))
    whole[len(whole) // 2] ^= 0x10
    with pytest.raises(UnreadableImage, match="it: is damaged: "):
        read_image(bytes(whole), "it")


@pytest.mark.parametrize(
    "content",
    [
        b"hello, I am a text file",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>",
        b"%PDF-1.7\n",
        b"GIF",
        b"\0" * 1000,
    ],
)
def test_what_is_no_image_is_refused(content: bytes) -> None:
    with pytest.raises(UnreadableImage, match=r"it: is no image of a known kind \(JPEG, PNG, WEBP, GIF"):
        read_image(content, "it")


def test_kinds_beyond_plain_raster_are_never_opened(encode: Encode, picture: Picture) -> None:
    for kind in ("EPS", "PDF", "ICO", "PCX", "TGA", "JPEG2000", "SGI"):
        with pytest.raises(UnreadableImage, match="no image of a known kind"):
            read_image(encode(picture(16, 16), kind), "it")


@pytest.mark.parametrize("side", [60_000, 13_378])
def test_a_decompression_bomb_is_refused_unopened(side: int, png: Encode) -> None:
    assert side * side > MAX_PIXELS
    bomb = png(side, side, 8, 2, b"\0" * 64)
    assert len(bomb) < 200
    with pytest.raises(UnreadableImage, match=r"bomb\.png: claims more than 178956970 pixels"):
        read_image(bomb, "bomb.png")


@pytest.mark.parametrize("pillows_limit", [None, 10_000_000_000])
def test_the_limit_does_not_hang_on_pillows_global(
    pillows_limit: int | None, png: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows_limit)
    with pytest.raises(UnreadableImage, match="has 60000 x 60000 pixels; at most 178956970 are decoded"):
        read_image(png(60_000, 60_000, 8, 2, b"\0" * 64), "bomb.png")
    assert pillows_limit == Image.MAX_IMAGE_PIXELS


def test_a_large_photograph_is_read_without_a_warning(
    encode: Encode, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)  # Pillow warns above it, refuses above twice it
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(encode(picture(), "PNG")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(encode(picture(), "PNG")).shape == (16, 24, 3)


def test_too_many_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "big.jpg"
    path.write_bytes(b"x" * 101)
    with pytest.raises(UnreadableImage, match=r"big\.jpg: has more than 100 bytes"):
        read_bytes(path, "big.jpg", limit=100)
    assert len(read_bytes(path, "big.jpg", limit=101)) == 101
    with pytest.raises(UnreadableImage, match="standard input: has more than 4 bytes"):
        read_stream(io.BytesIO(b"bytes"), "standard input", limit=4)
    monkeypatch.setattr(read, "MAX_FILE_BYTES", 100)
    with pytest.raises(UnreadableImage, match="it: has 101 bytes; at most 100 are read"):
        read_image(b"x" * 101, "it")


def test_paths_are_read(tmp_path: Path, picture: Picture) -> None:
    picture().save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.png", "a")), np.asarray(picture()))


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path, fact in (
        (tmp_path / "absent.png", "cannot be read: No such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "pipe.png", "is no regular file"),
        (Path("/dev/zero"), "is no regular file"),
        (Path("zero\0byte"), "cannot be read: embedded null"),
    ):
        with pytest.raises(UnreadableImage, match=f"it: {fact}"):
            read_image(path, "it")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
@example(b"P5 1 1 65535 \n")
@example(b"BM")
def test_random_bytes_never_crash(content: bytes) -> None:
    read_or_refuse(content)


_HEADS = [
    (kind, head)
    for kind, head in {
        "JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
        "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        "GIF": b"GIF89a",
        "WEBP": b"RIFF\x40\0\0\0WEBPVP8 ",
        "BMP": b"BM\x40\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0",
        "PPM": b"P6 ",
        "AVIF": b"\0\0\0\x20ftypavif",
    }.items()
]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(_HEADS), st.binary(max_size=200))
def test_random_bytes_after_a_true_beginning_never_crash(head: tuple[str, bytes], rest: bytes) -> None:
    read_or_refuse(head[1] + rest)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_changed_bytes_never_crash(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM", "TIFF", "AVIF"]))
    buffer = io.BytesIO()
    Image.effect_mandelbrot((20, 14), (-2, -1.5, 1, 1.5), 50).convert("RGB").save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    image = read_or_refuse(bytes(content))
    assert image is None or image.mode == "RGB"


def test_threads_leave_the_warning_filters_as_they_were(encode: Encode, picture: Picture) -> None:
    before = list(warnings.filters)
    content = encode(picture(200, 200), "TIFF", compression="tiff_lzw")
    threads = [threading.Thread(target=lambda: [read_image(content, "it") for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
