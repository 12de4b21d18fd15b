"""What is promised of a chosen variant, and whether images that had no part in choosing it bear that out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitlet.certify.certificate import Certificate, certify
from vitlet.certify.looks import count_look
from vitlet.certify.paired import check_confidence
from vitlet.certify.verdict import check_limit
from vitlet.data.imageset import ImageSet
from vitlet.data.made import is_made
from vitlet.data.twins import fingerprints
from vitlet.errors import InvalidValue
from vitlet.measure.damage import ChangedPicture, changed_pictures
from vitlet.measure.run import answers
from vitlet.measure.statistics import latency_claim, noise_floor
from vitlet.pipeline.measuring import Measured
from vitlet.records import Artifact, ProgressCallback

#: Images whose answer changed that the report shows.
_MOST_SHOWN = 12


@dataclass(frozen=True)
class Promise:
    """What a certificate is to say: whether the drop is within ``limit`` (0..1), if there is one, and how surely.
    ``looks`` is where it is remembered what these images judged (``vitlet.certify.looks``); ``None``: nowhere.

    Raises:
        InvalidValue: ``limit`` or ``confidence`` is out of its range.
    """

    limit: float | None = None
    confidence: float = 0.95
    looks: Path | None = None

    def __post_init__(self) -> None:
        check_confidence(self.confidence)
        if self.limit is not None:
            check_limit(self.limit)

    def judge(self, images: ImageSet, logits: np.ndarray, original: np.ndarray) -> Certificate:
        """``certify``, with the looks counted; float32 [images, classes] both."""
        earlier = None
        if self.looks is not None:
            prints = fingerprints(np.load(images.pixels_path, mmap_mode="r", allow_pickle=False))
            earlier = count_look(self.looks, prints, original.argmax(axis=1), logits.argmax(axis=1))
        return certify(
            logits, images.labels, original, limit=self.limit, confidence=self.confidence, earlier_looks=earlier
        )


def refuse_verdict_on_made(data: Sequence[str | Path], max_drop: float | None) -> None:
    """Refuse a limit that only images of the user's own could be held against.

    Raises:
        InvalidValue: the user said that there are none.
    """
    if max_drop is not None and is_made(data):
        raise InvalidValue("without images nothing can be said about a drop of accuracy; leave out --max-drop")


def answered(
    job: Measured,
    places: Collection[int],
    sets: Sequence[ImageSet],
    threads: int,
    scratch: Path,
    progress: ProgressCallback,
) -> dict[int, list[np.ndarray]]:
    """The logits of each of the ``sets`` by the place of each variant, float32 [images, classes]; of those that were
    exported.
    """
    found = {}
    for place in sorted(places):
        artifact = job.exported[place]
        if isinstance(artifact, Artifact):
            found[place] = answers(artifact, sets, threads, scratch, progress)
    return found


def certified(
    job: Measured,
    chosen: int,
    baseline: int,
    logits: np.ndarray,
    original: np.ndarray,
    promise: Promise,
    labels: Sequence[str],
) -> tuple[Certificate, tuple[ChangedPicture, ...]]:
    """How surely variant number ``chosen`` is as good as ``baseline``, by the logits of both for the images that were
    kept back, and some of those whose answer changed.
    """
    assert job.to_certify is not None
    certificate = promise.judge(job.to_certify, logits, original)
    claim = latency_claim(job.measured[chosen], job.measured[baseline], noise=noise_floor(job.measured))
    changed = changed_pictures(job.to_certify, logits, original, labels, _MOST_SHOWN)
    return replace(certificate, latency=claim), changed
