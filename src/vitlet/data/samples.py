"""The labelled images that come with vitlet, for the bundled model."""

from __future__ import annotations

from pathlib import Path

from vitlet.errors import NoImages


def bundled_images() -> Path:
    """The folder of the bundled images: PNG files in one sub-folder for each class.

    Raises:
        NoImages: this copy of vitlet was built without them.
    """
    folder = Path(__file__).with_name("samples")
    if not folder.is_dir() or next(folder.glob("*/*.png"), None) is None:
        raise NoImages(f"this copy of vitlet was built without its sample images ({folder} has none); name your own")
    return folder
