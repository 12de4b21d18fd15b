"""What a bundle tests itself with: images, the exact input that the model must get for each, and the right answers.

The first image is a *test card*, made for the purpose: neither square nor symmetric, with colours, slopes, edges and
stripes, so that each way of preparing it wrongly shows. The second is the same picture lying on its side with an EXIF
orientation that puts it up. Then come a few of the images that were measured.

**The tolerance.** Where a bundle was made, its file gives the same logits again but for the order of additions. On
another processor it may not: other kernels round elsewhere, and where activations are quantized, a last bit that
differs before the rounding is a whole step after it. So equal bits cannot be asked for. What can be asked is that such
rounding moves the logits no further than quantizing has moved them from the original model's: it is of the same kind,
and that much was measured and found good. The tolerance is that distance on these very images, the largest over them,
and 0.001 at least, which is the limit for fp32 in ``measure.gates``. A kernel that clips its sums, a wrong layout or
another model's weights are beyond it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitlet.bundle.card import lay_down, make_card
from vitlet.bundle.manifest import Golden, GoldenImage, Manifest
from vitlet.bundle.shipped import FILES
from vitlet.data.imageset import ImageSet
from vitlet.data.preprocess import crop_pixels, normalise
from vitlet.data.read import read_image
from vitlet.errors import ImageError, InvalidValue
from vitlet.measure.statistics import noise_floor
from vitlet.records import ImageSpec

#: Measured images that go into a bundle unless told otherwise, and the most that may.
FEW_IMAGES, MOST_IMAGES = 3, 16
#: A file up to this size goes in as it is.
_MOST_FILE_BYTES = 256 * 2**10
#: For all golden files but the test card's; images that do not fit any more stay out.
_MOST_BYTES = 4 * 2**20
_LEAST_TOLERANCE = 0.001

CARD, TURNED_CARD = "golden-card.png", "golden-card-turned.png"
LOGITS, ORIGINAL_LOGITS = "golden-logits.npy", "golden-original-logits.npy"


@dataclass(frozen=True)
class Picture:
    """An image's name and file in the bundle, and what the model is given of it: uint8 [height, width, 3]."""

    name: str
    content: bytes
    pixels: np.ndarray


def check_count(count: int) -> None:
    """Refuse before the work begins.

    Raises:
        InvalidValue: not 0 to 16 images.
    """
    if not 0 <= count <= MOST_IMAGES:
        raise InvalidValue(f"golden_images is {count}; it must be 0 (the test card alone) to {MOST_IMAGES}")


@dataclass(frozen=True)
class GoldenPictures:
    """What is to go into a bundle: the ``pictures``, the test card first, and their pixels as ``images`` that a model
    can be asked about.
    """

    pictures: tuple[Picture, ...]
    images: ImageSet


def golden_pictures(measured: ImageSet | None, count: int, spec: ImageSpec, scratch: Path) -> GoldenPictures:
    """The test card, and at most ``count`` of the images that were ``measured``; their pixels go to ``scratch``."""
    pictures = (_picture(CARD, make_card(spec), spec), *_measured_pictures(measured, count, spec))
    path = scratch / "golden-pixels.npy"
    np.save(path, np.stack([picture.pixels for picture in pictures]))
    names = tuple(picture.name for picture in pictures)
    return GoldenPictures(pictures, ImageSet(path, spec, names, (-1,) * len(names)))


def with_golden(
    manifest: Manifest, golden: GoldenPictures, logits: np.ndarray, original: np.ndarray | None
) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest with an account of its golden files; and these by name, with the programs that test with them.

    ``logits`` are the chosen variant's of the golden images, float32 [images, classes], and ``original`` the
    uncompressed model's; ``None`` where that is the chosen one, or never ran.
    """
    pictures, spec = golden.pictures, manifest.image_spec
    entries = [GoldenImage(p.name, _input_name(p.name), row) for row, p in enumerate(pictures)]
    entries.insert(1, GoldenImage(TURNED_CARD, entries[0].input, 0))
    files = {TURNED_CARD: lay_down(pictures[0].content), LOGITS: _npy(logits)}
    for picture in pictures:
        files[picture.name] = picture.content
        files[_input_name(picture.name)] = _npy(normalise(picture.pixels[np.newaxis], spec)[0])
    if original is not None:
        files[ORIGINAL_LOGITS] = _npy(original)
    account = Golden(
        tuple(entries),
        LOGITS,
        "" if original is None else ORIGINAL_LOGITS,
        tolerance(logits, original),
        noise_floor([row for row in manifest.measurements if row.status == "ok"]),
    )
    return replace(manifest, golden=account), files | shipped_files()


def tolerance(logits: np.ndarray, original: np.ndarray | None) -> float:
    """How far (relative L2) logits may be from the golden ones, both float32 [images, classes]: see the module."""
    if original is None:
        return _LEAST_TOLERANCE
    apart = np.linalg.norm(logits.astype(np.float64) - original, axis=1)
    far = apart / np.maximum(np.linalg.norm(original.astype(np.float64), axis=1), 1e-12)
    return float(min(max(_LEAST_TOLERANCE, far.max()), 1.0))


def shipped_files() -> dict[str, bytes]:
    """The programs that every bundle brings along, by name."""
    folder = Path(__file__).parent / "shipped"
    return {name: (folder / name).read_bytes() for name in FILES}


def _measured_pictures(images: ImageSet | None, count: int, spec: ImageSpec) -> list[Picture]:
    """Some of the measured images, as files that may be shipped."""
    if images is None or count == 0:
        return []
    found: list[Picture] = []
    room = _MOST_BYTES
    for content in _contents(images):
        try:
            shipped, ending = _shippable(content, spec)
            picture = _picture(f"golden-{len(found) + 1}{ending}", shipped, spec)
        except ImageError:  # it was readable a moment ago, at full size
            continue
        taken = len(picture.content) + 12 * spec.height * spec.width
        if taken > room:
            continue
        found.append(picture)
        room -= taken
        if len(found) == count:
            break
    return found


def _contents(images: ImageSet) -> list[bytes]:
    """Image files: those that were kept, else PNGs of what the model was given."""
    if images.encoded:
        return [path.read_bytes() for path in images.encoded]
    pixels = np.load(images.pixels_path, mmap_mode="r", allow_pickle=False)
    return [_png(np.asarray(one)) for one in pixels[:MOST_IMAGES]]


def _picture(name: str, content: bytes, spec: ImageSpec) -> Picture:
    return Picture(name, content, crop_pixels(read_image(content, name), spec))


def _shippable(content: bytes, spec: ImageSpec) -> tuple[bytes, str]:
    """An image's own bytes and ending, if the file is small and says nothing but the picture (where and by whom it was
    taken, say); else a PNG of its pixels, not much larger than the model needs.
    """
    from PIL import Image

    image = read_image(content, "a golden image")
    with Image.open(io.BytesIO(content)) as opened:
        kind, metadata = (
            opened.format,
            opened.info.keys() & {"exif", "xmp", "comment", "photoshop", "XML:com.adobe.xmp"},
        )
        has_text = bool(getattr(opened, "text", None))
    endings = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
    if kind in endings and not metadata and not has_text and len(content) <= _MOST_FILE_BYTES:
        return content, endings[kind]
    edge = spec.resize if isinstance(spec.resize, int) else max(spec.resize)
    most = max(edge * 5 // 4, spec.height, spec.width)
    scale = most / min(image.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return _png(np.asarray(image)), ".png"


def _input_name(image: str) -> str:
    return f"{image.rpartition('.')[0]}-input.npy"


def _npy(array: np.ndarray) -> bytes:
    """As a ``.npy`` file of version 1.0: a short header, then the values, little-endian float32."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array, "<f4"), version=(1, 0), allow_pickle=False)
    return file.getvalue()


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()
