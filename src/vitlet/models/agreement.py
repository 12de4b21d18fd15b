"""Whether vitlet's path gives what the source library's own gives: the gate before any accuracy number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from vitlet.data.find import find_images
from vitlet.data.made import is_made
from vitlet.data.named import is_named
from vitlet.data.read import read_image
from vitlet.data.samples import bundled_images
from vitlet.errors import ImageError, ParityFailed
from vitlet.models.parity import check_parity
from vitlet.records import Classifier, Parity

#: The resampling is the same code as the source library's, so only the order of the float
#: operations in (pixel / 255 - mean) / std can differ.
PREPROCESSING_TOLERANCE = 1e-5
#: The same sums in another order: up to 1e-4 on random weights, whose logits are near 1; trained
#: models' logits are ten times larger.
LOGITS_TOLERANCE = 1e-3
#: Images of the parity check. It is exact or it is not, so a few are enough.
PARITY_IMAGES = 4


def require_agreement(classifier: Classifier, data: Sequence[str | Path]) -> Parity:
    """Compare preprocessing and logits with the source library's own, on the first images of ``data``
    (on the bundled ones where ``data`` names no files).

    Raises:
        ParityFailed: the results differ by more than the order of float operations explains.
        NoImages, UnreadableImage: the images cannot be had.
    """
    parity = check_parity(classifier, _pictures(data))
    for what, found, most in (
        ("preprocessing", parity.preprocessing_max_abs, PREPROCESSING_TOLERANCE),
        ("logits", parity.logits_max_abs, LOGITS_TOLERANCE),
    ):
        if found is not None and not found <= most:
            raise ParityFailed(
                f"vitlet's {what} for {classifier.reference} differ from those of {parity.library} by {found:.2g}, "
                f"more than {most:.0e}: please report it, or go on all the same with --no-check"
            )
    return parity


def _pictures(data: Sequence[str | Path]) -> list[Image.Image]:
    paths = [str(path) for path in data]
    if not paths or "-" in paths or is_named(paths) or is_made(paths):  # standard input can be read only once
        paths = [str(bundled_images())]
    pictures: list[Image.Image] = []
    for source in find_images(paths):
        try:
            pictures.append(read_image(source.read(), source.name))
        except ImageError:  # load_images names and counts it
            continue
        if len(pictures) == PARITY_IMAGES:
            break
    return pictures
