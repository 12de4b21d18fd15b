"""A teacher teaches a student, which is then compressed like any other model."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitlet.bundle.read import Bundle
from vitlet.data.calibration import ENOUGH
from vitlet.data.named import is_named
from vitlet.engines import engine
from vitlet.errors import UnreadableImage
from vitlet.pipeline.compressing import compress
from vitlet.pipeline.loading import read_if_bundle
from vitlet.records import ProgressCallback, no_progress
from vitlet.results import Compressed

if TYPE_CHECKING:
    from vitlet.data.labelled import LabelledImages
    from vitlet.distill.job import DistillResult, Settings
    from vitlet.distill.recipe import Recipe
    from vitlet.distill.teacher import Teacher

#: Of the held-out images so many are laid out for ``compress``, which measures 500 by default.
_MOST_HELD_OUT = 2000


def distill(
    data: str,
    out: str | Path,
    *,
    recipe: Recipe | str = "quick",
    settings: Settings | None = None,
    progress: ProgressCallback = no_progress,
) -> DistillResult:
    """Let a teacher teach a small ViT and write it to ``out``, a ``.safetensors`` file.

    ``data`` is a data set by name (``torchvision:FashionMNIST``, ``hf:owner/name``) or a folder of class folders;
    ``recipe`` one of vitlet's by name, a TOML file, or a ``vitlet.distill.recipe.Recipe``; the teacher may
    also be a bundle. Errors are those of ``vitlet.distill.job.distill``.
    """
    from vitlet.distill.job import distill as train
    from vitlet.distill.recipe_file import load_recipe
    from vitlet.distill.teacher import load_teacher

    def find_teacher(reference: str) -> Teacher:
        found = read_if_bundle(reference)
        return bundle_teacher(found) if isinstance(found, Bundle) else load_teacher(reference, progress=progress)

    chosen = load_recipe(recipe) if isinstance(recipe, str) else recipe
    return train(data, Path(out), chosen, settings, find_teacher=find_teacher, progress=progress)


def compress_student(
    done: DistillResult,
    data: str,
    out: str | Path,
    data_root: Path | None = None,
    **options: Any,
) -> Compressed:
    """``compress`` what ``distill`` made, on the test images of the ``data`` that it was trained on; ``options`` and
    errors as ``compress``.
    """
    with held_out(data, data_root) as (images, calibration):
        return compress(str(done.path), out=out, data=images, calibration=calibration, **options)


def bundle_teacher(bundle: Bundle) -> Teacher:
    """A bundle as a teacher for ``distill``: its own artifact answers, through its own runtime."""
    import torch

    from vitlet.distill.teacher import Teacher

    manifest, threads = bundle.manifest, torch.get_num_threads()
    session = engine(bundle.artifact.engine).open(bundle.artifact, threads=threads)

    def answer(images: torch.Tensor) -> torch.Tensor:
        logits = session.run(images.detach().float().cpu().contiguous().numpy())
        return torch.from_numpy(np.array(logits)).to(images.device)

    hashes = " ".join(entry.sha256 for _, entry in sorted(manifest.files.items()))
    return Teacher(str(bundle.path), answer, manifest.image_spec, manifest.labels, hashes)


@contextmanager
def held_out(data: str, root: Path | None = None) -> Iterator[tuple[list[str], list[str]]]:
    """The test images of what ``distill`` was trained on, and some training images to calibrate with, as what
    ``compress`` takes: a named data set as itself, any other (or one in another place) as class folders.
    """
    from vitlet.data.datasets import load_dataset

    if is_named([data]) and root is None:
        yield [data], []
        return
    with tempfile.TemporaryDirectory(prefix="vitlet-") as scratch:
        test, train = load_dataset(data, "test", root), load_dataset(data, "train", root)
        for name, images, most in (("test", test, _MOST_HELD_OUT), ("calibration", train, ENOUGH)):
            some = np.random.default_rng(0).permutation(images.count)[:most]
            _lay_out(images.subset(some), Path(scratch) / name)
        yield [str(Path(scratch) / "test")], [str(Path(scratch) / "calibration")]


def _folder_name(label: str) -> str:
    """A class's name as that of a folder, which is matched to it by letters and digits (``vitlet.data.labels``)."""
    return re.sub(r"[^\w ]+", " ", label).strip()[:100] or "unnamed"


def _lay_out(images: LabelledImages, folder: Path) -> None:
    """As class folders: files as links to them, pixels as PNG files; what cannot be read is left out."""
    from vitlet.data.labelled import LabelledFiles

    for number, label in enumerate(images.labels):
        place = folder / _folder_name(images.class_names[label])
        place.mkdir(parents=True, exist_ok=True)
        if isinstance(images, LabelledFiles):
            path = Path(images.name(number)).absolute()
            (place / f"{number:07d}{path.suffix}").symlink_to(path)
            continue
        with suppress(UnreadableImage):
            images.read(number).save(place / f"{number:07d}.png")
