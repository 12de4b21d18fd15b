"""What looking into a model finds: plain values, for the table, the page and the search, that need no model."""

from __future__ import annotations

from dataclasses import dataclass

from vitlet.errors import InvalidValue

#: A channel is an outlier where its largest magnitude is so many times that of the median channel of the same input.
#: The 6 is LLM.int8()'s threshold (arXiv 2208.07339), which is a magnitude, and that of Bondarenko et al. (2109.12948),
#: in standard deviations of the tensor; here it is relative and by channel, since ViTs and layers differ in scale.
OUTLIER_RATIO = 6.0


@dataclass(frozen=True)
class Operation:
    """A product that int8 arithmetic can do: of activations and weights, or of two activations.

    ``name`` is the module's path ("blocks.3.mlp.up"; "scores" and "weighted_sum" are attention's two products).
    ``kind`` is a word that operations of all blocks share; ``block`` counts from 0, ``None`` outside of any.
    ``weight_bytes`` are those of its float32 weights, ``macs`` its multiplications for one image.
    """

    name: str
    kind: str
    block: int | None
    weight_bytes: int
    macs: int


@dataclass(frozen=True)
class Cost:
    """What quantizing something did to the answers to ``images``.

    ``logits_error`` is the relative L2 distance of the logits, ``norm(a - b) / norm(b)`` over all images; ``None`` for
    logits that are all zero. ``kl_divergence`` is that of the float model's probabilities from the quantized one's,
    in nats, the mean over the images (the sensitivity of ZeroQ, arXiv 2001.00281). ``changed`` counts images
    with another top answer.
    """

    logits_error: float | None
    kl_divergence: float
    changed: int
    images: int

    def __post_init__(self) -> None:
        if not 0 <= self.changed <= self.images or self.images < 1:
            raise InvalidValue(f"{self.changed} changed of {self.images} images do not go together")


@dataclass(frozen=True)
class Sensitivity:
    """What quantizing one ``operation`` alone costs, all else in float32.

    ``sqnr_db`` is the signal-to-quantization-noise ratio of its own output over all images, in dB; ``None`` without
    any noise.
    """

    operation: Operation
    cost: Cost
    sqnr_db: float | None


@dataclass(frozen=True)
class KindCost:
    """What quantizing all operations of a ``kind`` costs."""

    kind: str
    cost: Cost


@dataclass(frozen=True)
class InputStatistics:
    """The values that came to one input of an operation, over all images.

    ``name`` says which input ("input"; "query" and "key", "probabilities" and "value"). ``magnitude_999`` is the
    magnitude that 99.9 % of the values do not exceed (to 3 %, never too small). ``channel_maxima`` are the largest
    magnitudes by channel; empty where the last dimension has no channels (attention's probabilities).
    """

    operation: str
    name: str
    minimum: float
    maximum: float
    magnitude_999: float
    channel_maxima: tuple[float, ...]

    @property
    def median_channel(self) -> float:
        """The median of the channel maxima (the upper one of two); 0 without channels."""
        return sorted(self.channel_maxima)[len(self.channel_maxima) // 2] if self.channel_maxima else 0.0

    @property
    def outlier_channels(self) -> tuple[int, ...]:
        """The channels whose largest magnitude is above ``OUTLIER_RATIO`` times the median channel's, largest first."""
        limit = OUTLIER_RATIO * self.median_channel
        found = [number for number, value in enumerate(self.channel_maxima) if value > limit > 0]
        return tuple(sorted(found, key=lambda number: -self.channel_maxima[number]))


@dataclass(frozen=True)
class Sensitivities:
    """What int8 costs, operation by operation (in the order in which they run), by kind, and all together.

    ``precision`` is "int8-static" (ranges of activations learned beforehand) or "int8-dynamic" (each image's own).
    ``inputs`` are what came to the operations of the float model, on the images that the ranges were learned from.
    """

    precision: str
    operations: tuple[Sensitivity, ...]
    kinds: tuple[KindCost, ...]
    together: Cost
    inputs: tuple[InputStatistics, ...]


def ranked(found: Sensitivities) -> tuple[Sensitivity, ...]:
    """The most sensitive operation first: by the divergence of the answers, which is what is to be kept. The ones to
    leave in float, one after the other, until the answers are good enough.
    """
    return tuple(sorted(found.operations, key=lambda one: (-one.cost.kl_divergence, -(one.cost.logits_error or 0.0))))


@dataclass(frozen=True)
class View:
    """What a model answers for an image, and where it looks: [rows][columns] of patches, shares that sum to 1.

    ``rollout`` follows attention through all layers (arXiv 2005.00928), ``last`` is that of the last layer; both are
    those of the tokens that the head reads, prefix tokens left out.
    """

    answer: str
    rollout: tuple[tuple[float, ...], ...]
    last: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class AttentionMaps:
    """One image through the float model and through the same with all operations in simulated int8.

    ``pixels`` is the image as the model sees it, before normalisation: uint8 [height, width, 3] as bytes.
    """

    image: str
    height: int
    width: int
    pixels: bytes
    original: View
    int8: View

    @property
    def rollout_moved(self) -> float:
        """The share of the rollout that lies elsewhere, 0 to 1 (total variation distance)."""
        return _moved(self.original.rollout, self.int8.rollout)

    @property
    def last_moved(self) -> float:
        """The same of the last layer's attention."""
        return _moved(self.original.last, self.int8.last)


@dataclass(frozen=True)
class Inspection:
    """All that was found; ``attention`` is empty, and ``no_attention`` says why, where there is none to show."""

    sensitivities: Sensitivities
    attention: tuple[AttentionMaps, ...] = ()
    no_attention: str = ""


def _moved(one: tuple[tuple[float, ...], ...], other: tuple[tuple[float, ...], ...]) -> float:
    return sum(abs(a - b) for row, others in zip(one, other, strict=True) for a, b in zip(row, others, strict=True)) / 2
