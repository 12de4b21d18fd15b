"""Images whose reading processes fail, in a process of its own: ``dying_readers.py died|mistaken|unreadable
training|test``.

Not a test itself. A reading process that is killed interrupts whatever its parent does at that moment, and after any
failure torch takes its time to end the others, in which pipes may be in any state: nothing for a process that goes on
with other tests.
"""

import os
import signal
import sys

import numpy as np
from torch.utils.data import get_worker_info

from vitlet.data.labelled import LabelledPixels
from vitlet.distill.loader import plain_batches, training_stream
from vitlet.distill.order import Order
from vitlet.distill.recipe import Augmentation
from vitlet.errors import UnreadableImage
from vitlet.records import ImageSpec

SPEC = ImageSpec(8, 8, (8, 8))


class Died(LabelledPixels):
    """Ends the first of the processes that read it, as the kernel ends one that takes too much memory."""

    def read(self, index):
        worker = get_worker_info()
        if worker is not None and worker.id == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(index)


class Mistaken(LabelledPixels):
    """Has a mistake in its program."""

    def read(self, index):
        raise RuntimeError("a mistake")


class Unreadable(LabelledPixels):
    """Holds no image that can be read."""

    def read(self, index):
        raise UnreadableImage(f"image {index}: is truncated")


def main(what: str, reads: str) -> None:
    kind = {"died": Died, "mistaken": Mistaken, "unreadable": Unreadable}[what]
    data = kind(np.zeros((24, 8, 8, 3), np.uint8), np.zeros(24, np.int64), ("a", "b"))
    try:
        if reads == "training":
            stream = training_stream(data, SPEC, Augmentation("none", random_augment=""), Order(24, 6), workers=2)
            list(stream.epoch(0))
        else:
            list(plain_batches(data, SPEC, batch=6, workers=2))
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(0)  # torch would wait for the others for five seconds


if __name__ == "__main__":
    main(*sys.argv[1:])
