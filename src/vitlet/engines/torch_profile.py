"""What PyTorch's profiler says of a session: operators, their arithmetic and their time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitlet.errors import Unsupported
from vitlet.records import Artifact, Execution

if TYPE_CHECKING:
    import numpy as np

    from vitlet.engines import Session


def explain_session(session: Session, artifact: Artifact, images: np.ndarray) -> Execution:
    """Run ``images`` float32 [batch, 3, height, width] a few times under ``torch.profiler``."""
    raise Unsupported("not written yet")
