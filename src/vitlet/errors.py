"""Every error vitlet raises on purpose, as one tree.

::

    VitletError                 exit code 1; its text is one sentence for the user
    ├── InvalidValue            a setting, argument or record is out of its range
    ├── ModelError              a model cannot be had
    │   ├── ModelNotFound       no such name, file or repository
    │   ├── ModelUnreadable     the file is damaged, hostile or of an unknown layout
    │   └── HubUnreachable      the network or the hub is down
    ├── ImageError              images cannot be had
    │   ├── UnreadableImage     one image is broken, too large or no image at all
    │   └── NoImages            nothing usable was found
    │       └── EmptyPart       none belongs to a part of the data
    ├── Unsupported             this engine, precision or model does not go together here
    ├── ParityFailed            vitlet's path and the source library's give different results
    ├── ExportFailed            an exporting process died, hung or answered nonsense
    ├── OverBudget              no variant keeps to the limits on speed, size or memory (exit code 3)
    ├── MeasurementFailed       a measuring process died, hung or returned nonsense
    ├── TrainingFailed          training cannot go on (NaN loss, damaged checkpoint)
    └── BundleError             a bundle cannot be written or read
        ├── OutputExists        the output path is taken
        ├── NotWritable         no permission, no space, no such folder
        └── BundleInvalid       what lies there is no bundle, or it was damaged

A message says what was wrong, quotes the value, and says what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitlet.results import Bench


class VitletError(Exception):
    """Root of the tree; ``str(error)`` is one sentence that can be shown as it is."""


class InvalidValue(VitletError, ValueError):
    """A setting, argument or record is out of its range; the message quotes value and range."""


class ModelError(VitletError):
    """A model cannot be had."""


class ModelNotFound(ModelError):
    """No model of that name, at that path or in that repository."""


class ModelUnreadable(ModelError):
    """A model file is truncated, hostile or of a layout that vitlet does not know."""


class HubUnreachable(ModelError):
    """The network, or the hub that should serve the weights, is down."""


class ImageError(VitletError):
    """Images cannot be had."""


class UnreadableImage(ImageError):
    """One image is broken, truncated, too large or no image at all."""


class NoImages(ImageError):
    """Nothing that could be read as an image was found."""


class EmptyPart(NoImages):
    """There are images, but none belongs to the part of them that is to calibrate, to search or to certify with."""


class Unsupported(VitletError):
    """An engine, precision or model that does not go together on this machine.

    The reason becomes a cell of the table, never a crash.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ParityFailed(VitletError):
    """Preprocessing or logits differ from the library that the model came from."""


class ExportFailed(VitletError):
    """An exporting process died, hung or answered nonsense."""


class OverBudget(VitletError):
    """No variant keeps to the limits on speed, size or memory; ``bench`` holds all that was measured."""

    def __init__(self, message: str, bench: Bench) -> None:
        super().__init__(message)
        self.bench = bench


class MeasurementFailed(VitletError):
    """A measuring process died, hung or answered nonsense."""


class TrainingFailed(VitletError):
    """Training cannot go on; the message names the last usable checkpoint."""


class BundleError(VitletError):
    """A bundle cannot be written or read."""


class OutputExists(BundleError):
    """The output path is already taken."""


class NotWritable(BundleError):
    """The output cannot be written: no permission, no space, no such folder."""


class BundleInvalid(BundleError):
    """What lies at that path is no bundle, or it was damaged."""
