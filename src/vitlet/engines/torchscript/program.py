"""From a live module to a TorchScript program: by scripting, and where that cannot be, by tracing."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vitlet.errors import Unsupported
from vitlet.records import Classifier

_DEPRECATIONS = (r"`torch\.jit\.", r"torch\.ao\.quantization is deprecated", r"Lite Interpreter is deprecated")


@contextmanager
def without_deprecations() -> Iterator[None]:
    """Keep back PyTorch's notices that TorchScript and eager quantization are on their way out:
    vitlet offers them on purpose, and a user of vitlet can do nothing about them.
    """
    with warnings.catch_warnings():
        for message in _DEPRECATIONS:
            for category in (DeprecationWarning, FutureWarning):  # the latter since PyTorch 2.15
                warnings.filterwarnings("ignore", message, category)
        yield


def one_line(error: BaseException, most: int = 200) -> str:
    """The line of PyTorch's often long messages that says something: the one that gives the cause of
    a failure inside a TorchScript program, else the first.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line.removeprefix("RuntimeError: ") for line in lines if line.startswith("RuntimeError: ")]
    first = (causes + lines)[0].rstrip(" :.") if lines else type(error).__name__
    return first if len(first) <= most else first[: most - 3] + "..."


def example_images(classifier: Classifier, batch: int, *, seed: int = 0) -> Tensor:
    """Seeded noise, float32 [batch, 3, height, width]."""
    size = (batch, 3, classifier.architecture.image_height, classifier.architecture.image_width)
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def evaluation_module(classifier: Classifier) -> nn.Module:
    """The module in eval mode: itself, or a copy if any part of it is in training mode."""
    module = classifier.module
    if any(part.training for part in module.modules()):
        return copy.deepcopy(module).eval()
    return module


def to_torchscript(module: nn.Module, classifier: Classifier) -> tuple[torch.jit.ScriptModule, str]:
    """Return ``module`` (the classifier's own, or what was made of it) as a TorchScript program,
    and a note: empty if it was scripted.

    A trace holds only the path that one example took. So it is compared with the module on other
    images and other batch sizes before it is believed.

    Raises:
        Unsupported: it can neither be scripted nor traced, or its trace is wrong.
    """
    with warnings.catch_warnings(), torch.no_grad():
        # Both compilers warn about lines of the model's own source, which its user cannot change.
        warnings.simplefilter("ignore")
        try:
            return torch.jit.script(module), ""
        except Exception:  # foreign source can make the compiler raise anything
            return _traced(module, classifier), "traced: the model cannot be scripted"


def _traced(module: nn.Module, classifier: Classifier) -> torch.jit.ScriptModule:
    try:
        traced = torch.jit.trace(module, example_images(classifier, 2), check_trace=False)  # type: ignore[no-untyped-call]
        _check_trace(traced, module, classifier)
    except Unsupported:
        raise
    except Exception as error:  # and here its own forward runs
        raise Unsupported(
            f"{classifier.reference} can neither be scripted nor traced ({one_line(error)}); "
            "use the torch engine for it"
        ) from error
    return traced


def _check_trace(traced: nn.Module, module: nn.Module, classifier: Classifier) -> None:
    for batch in (1, 3):
        images = example_images(classifier, batch, seed=batch)
        wanted = module(images)
        found = traced(images)
        if found.shape != wanted.shape or not torch.allclose(found, wanted, rtol=1e-3, atol=1e-4):
            raise Unsupported(
                f"{classifier.reference} cannot be scripted, and its trace answers wrongly at batch size {batch}; "
                "use the torch engine for it"
            )
