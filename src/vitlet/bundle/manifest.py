"""What a bundle says about itself: the content of its ``manifest.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import PurePosixPath
from typing import Any, Literal, get_type_hints

import msgspec

from vitlet.certify.certificate import Certificate
from vitlet.data.imageset import ImageSet, Skipped
from vitlet.data.twins import Twins
from vitlet.errors import InvalidValue
from vitlet.measure.verdict import Verdict
from vitlet.records import (
    Architecture,
    Artifact,
    Device,
    Environment,
    ImageSpec,
    Measurement,
    Parity,
    Precision,
    architecture_from_json,
    from_json,
    to_json,
)

#: Raised when a reader of the former layout could no longer understand the new one.
SCHEMA_VERSION = 1
#: Skipped images, and twins, that are named one by one; the others are only counted.
MOST_NAMED = 200
#: ImageNet-21k has 21,841 labels; a million is a mistake or an attack.
MOST_LABELS = 1_000_000
#: A few are enough to tell what is wrong.
MOST_GOLDEN = 64


@dataclass(frozen=True)
class Recipe:
    """How the bundle was made: ``command`` is what to type to make it again.

    ``settings`` are the remaining choices by name (runs, rounds, seed, batch size, ...).
    """

    command: str
    engine: str
    precision: str
    threads: int
    settings: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelFile:
    """The file in the bundle that the runtime opens. ``height``, ``width``: the input's pixels.

    ``companions`` are the suffixes of further files that it needs, with the same name (".bin").
    """

    engine: str
    precision: Precision
    file: str
    height: int
    width: int
    classes: int
    note: str = ""
    companions: tuple[str, ...] = ()
    device: Device = "cpu"

    @classmethod
    def of(cls, artifact: Artifact) -> ModelFile:
        """The entry for an artifact; in the bundle it is called ``model`` with the artifact's suffix."""
        a = artifact
        file = "model" + a.path.suffix
        return cls(a.engine, a.precision, file, a.height, a.width, a.classes, a.note, a.companions, a.device)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all its files in the bundle, the one that the runtime opens first."""
        return (self.file, *(str(PurePosixPath(self.file).with_suffix(suffix)) for suffix in self.companions))


@dataclass(frozen=True)
class FileHash:
    """A file of the bundle: SHA-256 (FIPS 180-4) of its bytes in lower-case hex, and their number."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Images:
    """The images that the measurements saw: how many, how many with a label, which were left out.

    ``skipped`` names the first 200 of ``skipped_count``. ``note`` and ``digest`` are the image set's own.
    """

    count: int = 0
    labelled: int = 0
    skipped: tuple[Skipped, ...] = ()
    skipped_count: int = 0
    note: str = ""
    digest: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.labelled <= self.count:
            raise InvalidValue(f"{self.labelled} of {self.count} images cannot be labelled")
        if self.skipped_count < len(self.skipped):
            raise InvalidValue(f"{len(self.skipped)} images are named as skipped but {self.skipped_count} counted")

    @classmethod
    def of(cls, images: ImageSet | None) -> Images:
        """The account of an image set; of none where random inputs were measured."""
        if images is None:
            return cls()
        return cls(
            images.count,
            images.labelled,
            images.skipped[:MOST_NAMED],
            len(images.skipped),
            images.note,
            images.digest,
        )


NO_IMAGES = Images()


@dataclass(frozen=True)
class GoldenImage:
    """``file``: an image in the bundle; ``input``: the ``.npy`` file, float32 [3, height, width], that the model must
    get for it; ``row``: its place in the logits.
    """

    file: str
    input: str
    row: int

    def __post_init__(self) -> None:
        if not 0 <= self.row < MOST_GOLDEN:
            raise InvalidValue(f"the row of {self.file} is {self.row}; it must be 0 to {MOST_GOLDEN - 1}")


@dataclass(frozen=True)
class Golden:
    """What the bundle tests itself with.

    ``logits`` and ``original_logits`` are ``.npy`` files, float32 [rows, classes]: those of the model in the bundle
    and, if it was exported, of the uncompressed one (else empty). Logits that are ``tolerance`` (relative L2
    distance) away are still those of the same model on another processor. ``noise`` is by how much two measurements of
    one file's latency differed (0.04 is 4 %); ``None`` if that was not seen.
    """

    images: tuple[GoldenImage, ...]
    logits: str
    original_logits: str
    tolerance: float
    noise: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.images) <= MOST_GOLDEN:
            raise InvalidValue(f"there are {len(self.images)} golden images; it must be 1 to {MOST_GOLDEN}")
        if not 0 <= self.tolerance <= 10:
            raise InvalidValue(f"the tolerance of the golden logits is {self.tolerance}; it must be 0 to 10")

    @property
    def names(self) -> tuple[str, ...]:
        """Every file that it speaks of."""
        images = (name for image in self.images for name in (image.file, image.input))
        return (*images, *filter(None, (self.logits, self.original_logits)))


@dataclass(frozen=True)
class Manifest:
    """Everything about a bundle but the model's own bytes.

    ``created`` is ISO 8601 in UTC. ``chosen`` and ``baseline`` are places in ``measurements``: the
    variant in the bundle, and the uncompressed model that all are compared with. ``sentences`` are
    the verdict in words, the most important first; ``verdicts`` the same in a word for each of the
    measurements (or none). ``certificate`` says how surely the chosen one answers as well as the baseline, by the
    images ``certified_on``; ``twins`` are the first 200 of ``twin_count`` of them that look like one of the others.
    ``seed`` is that of random weights, ``note`` what a person should know of how the model was loaded. ``files``
    holds every file of the bundle by name but ``manifest.json`` and ``SHA256SUMS``; it is empty until the bundle is
    written.
    """

    vitlet_version: str
    created: str
    reference: str
    library: str
    random_weights: bool
    architecture: Architecture
    image_spec: ImageSpec
    labels: tuple[str, ...]
    recipe: Recipe
    model: ModelFile
    environment: Environment
    measurements: tuple[Measurement, ...]
    chosen: int
    baseline: int
    sentences: tuple[str, ...]
    verdicts: tuple[Verdict, ...] = ()
    images: Images = NO_IMAGES
    parity: Parity | None = None
    certificate: Certificate | None = None
    golden: Golden | None = None
    certified_on: Images = NO_IMAGES
    twins: tuple[Twins, ...] = ()
    twin_count: int = 0
    seed: int = 0
    note: str = ""
    files: Mapping[str, FileHash] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    kind: Literal["vitlet-bundle"] = "vitlet-bundle"

    def __post_init__(self) -> None:
        labels, classes = len(self.labels), self.architecture.classes
        if labels > MOST_LABELS:
            raise InvalidValue(f"{labels} labels are more than {MOST_LABELS}")
        if not labels == classes == self.model.classes:
            raise InvalidValue(
                f"{labels} labels, an architecture of {classes} classes and a model file of {self.model.classes}: "
                "the three must be equal"
            )
        spec, model = (self.image_spec.height, self.image_spec.width), (self.model.height, self.model.width)
        if spec != model:
            raise InvalidValue(f"images of {spec} pixels for a model file that takes {model}")
        for name in ("chosen", "baseline"):
            place = getattr(self, name)
            if not 0 <= place < len(self.measurements):
                raise InvalidValue(f"{name} is {place}, which is not one of {len(self.measurements)} measurements")
        if self.verdicts and len(self.verdicts) != len(self.measurements):
            raise InvalidValue(f"{len(self.verdicts)} verdicts on {len(self.measurements)} measurements")
        for name in self.golden.names if self.golden and self.files else ():
            if name not in self.files:
                raise InvalidValue(f"the golden file {name!r} is none of the bundle's files")


def manifest_to_bytes(manifest: Manifest) -> bytes:
    """The text of ``manifest.json``, UTF-8.

    A file name that is no valid UTF-8 reaches Python with lone surrogates, which JSON cannot hold;
    they are written as ``\\udcXX`` escapes.
    """
    text = msgspec.json.encode(_printable(to_json(manifest)))
    return msgspec.json.format(text, indent=1) + b"\n"


def manifest_from_json(data: object) -> Manifest:
    """Build a manifest from decoded JSON; fields that this version does not know are ignored.

    Raises:
        InvalidValue: a field is missing, of the wrong type or out of range; the message says where.
    """
    stored = from_json(data, _stored_type())
    values = {f.name: getattr(stored, f.name) for f in fields(Manifest)}
    return Manifest(**values | {"architecture": architecture_from_json(values["architecture"])})


@cache
def _stored_type() -> type[Any]:
    """The manifest with an undecided architecture: msgspec cannot tell two plain dataclasses apart.

    One type for all: of a new one msgspec builds a description, and clears whatever is raised while it hashes the
    ``Literal``s in it, a Ctrl-C too.
    """
    hints = get_type_hints(Manifest) | {"architecture": Any}
    described: list[Any] = []
    for f in sorted(fields(Manifest), key=lambda f: f.default is not MISSING or f.default_factory is not MISSING):
        if f.default_factory is not MISSING:
            described.append((f.name, hints[f.name], msgspec.field(default_factory=f.default_factory)))
        elif f.default is not MISSING:
            described.append((f.name, hints[f.name], f.default))
        else:
            described.append((f.name, hints[f.name]))
    return msgspec.defstruct("manifest", described)


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_printable(name): _printable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item) for item in value]
    return value
