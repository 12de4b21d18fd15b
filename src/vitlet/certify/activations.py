"""What range the activations of a layer span, and which of its channels stand out; gathered image by image."""

from __future__ import annotations

import torch
from torch import Tensor

from vitlet.certify.inspection import InputStatistics

#: Of a float32's 23 bits behind the point so many are left away to count magnitudes: 32 bins for each factor of 2.
_DROPPED_BITS = 18
_SIGN_LEFT_OUT = 0x7FFFFFFF
_BINS = (_SIGN_LEFT_OUT >> _DROPPED_BITS) + 1


class RunningStatistics:
    """The statistics of one input; memory does not grow with the images."""

    def __init__(self) -> None:
        self.minimum, self.maximum = float("inf"), float("-inf")
        self._counts = torch.zeros(_BINS, dtype=torch.int64)
        self._channels: Tensor | None = None

    def add(self, values: Tensor, channels: Tensor | None) -> None:
        """values: float32 of any shape; channels: the same [values of a channel, channels] or ``None`` without any."""
        low, high = values.aminmax()
        self.minimum, self.maximum = min(self.minimum, float(low)), max(self.maximum, float(high))
        # The bits of a positive float32, read as an integer, are in the order of its value.
        bits = values.contiguous().view(torch.int32).bitwise_and(_SIGN_LEFT_OUT).bitwise_right_shift(_DROPPED_BITS)
        self._counts += torch.bincount(bits.flatten(), minlength=_BINS)
        if channels is not None:
            largest = channels.abs().amax(dim=0)
            self._channels = largest if self._channels is None else torch.maximum(self._channels, largest)

    def finish(self, operation: str, name: str) -> InputStatistics:
        """What was seen, of at least one image."""
        channels = () if self._channels is None else tuple(self._channels.tolist())
        return InputStatistics(operation, name, self.minimum, self.maximum, self._magnitude(0.999), channels)

    def _magnitude(self, share: float) -> float:
        """The upper edge of the bin that ``share`` of the magnitudes do not exceed."""
        wanted = share * float(self._counts.sum())
        bin_ = int(torch.searchsorted(self._counts.cumsum(0), wanted))
        edge = torch.tensor((bin_ + 1) << _DROPPED_BITS, dtype=torch.int32).view(torch.float32)
        return min(float(edge), max(abs(self.minimum), abs(self.maximum)))


def by_channel(values: Tensor, axis: int) -> Tensor:
    """[..., channels, ...] -> [values of a channel, channels]; ``axis`` is where the channels are."""
    return values.movedim(axis, -1).flatten(0, -2)


def heads_by_channel(values: Tensor) -> Tensor:
    """[batch, heads, tokens, head_width] -> [batch * tokens, heads * head_width]."""
    return values.transpose(1, 2).flatten(2).flatten(0, 1)
