"""From a module to native code in a file: ``torch.export``, then AOTInductor.

The C++ that Inductor writes is compiled for the processor at hand, so the file runs on that kind
of processor only. Everything that is written on the way lies in one temporary folder.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitlet.engines.inductor.archive import add_record
from vitlet.engines.torch.processor import compiled_for
from vitlet.engines.torch.threads import using_threads
from vitlet.engines.torchscript.program import example_images, one_line
from vitlet.errors import Unsupported
from vitlet.records import Classifier, Device, Precision
from vitlet.whole_file import write_whole

_SETTINGS: dict[str, Any] = {
    # Weights become constants, packed ahead for oneDNN.
    "freezing": True,
    # Else the number of threads at export is written into the code.
    "cpp.dynamic_threads": True,
    # Each kernel by its name in PyTorch's profile.
    "cpp.enable_kernel_profile": True,
    # Trial compilations of each instruction set take a quarter of a minute; the real one tells, too.
    "cpp.vec_isa_ok": True,
    # These would be left in the system's temporary folder; for one file they gain nothing.
    "aot_inductor.precompile_headers": False,
    "cpp_cache_precompile_headers": False,
    # No pool of compiling processes that outlives the export.
    "compile_threads": 1,
}


def write_package(
    module: nn.Module,
    target: Path,
    engine: str,
    classifier: Classifier,
    precision: Precision,
    device: Device,
    prepare: Callable[[nn.Module, Tensor], tuple[nn.Module, str]] | None = None,
) -> str:
    """Compile ``module`` (images [batch, 3, height, width] -> logits) and write it whole to ``target``.

    ``prepare`` turns the module, given one example, into what is compiled, and a note, which is
    returned; it runs inside the temporary folder and silence of the compilation. For the CPU the code
    takes one image.

    Raises:
        Unsupported: no compiler, a PyTorch that does not know the processor, or a model that cannot be
            exported or compiled.
        NotWritable: the file cannot be written.
    """
    require_compiler()
    compiled_for()  # refuses here, and not after the compilation
    with _workshop() as folder, using_threads(max(2, torch.get_num_threads())), torch.no_grad():
        package = folder / "model.pt2"
        try:
            example = example_images(classifier, 1 if device == "cpu" else 2).to(device)
            ready, note = (module, "") if prepare is None else prepare(module, example)
            _compile(ready, example, device, package)
        except Unsupported:
            raise
        except Exception as error:  # the compiler's many stages raise anything
            raise Unsupported(
                f"{classifier.reference} cannot be compiled by Inductor ({one_line(error)}); use another engine for it"
            ) from error
        add_record(package, engine, classifier, precision, device)
        write_whole(target, package.read_bytes())
    return note


def require_compiler() -> None:
    """Refuse to compile where there is nothing to compile with.

    Raises:
        Unsupported: no C++ compiler, or no such system.
    """
    wanted = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(wanted) is None:
        raise Unsupported(f"Inductor needs a C++ compiler to export, and there is no {wanted}; install {wanted}")


def _compile(module: nn.Module, example: Tensor, device: Device, package: Path) -> None:
    from torch._inductor import aoti_compile_and_package
    from torch._inductor import config as settings

    # With a batch of any size Inductor does not pack fp32 weights ahead on the CPU.
    shapes = None if device == "cpu" else ({0: torch.export.Dim("batch", min=1, max=1024)},)
    with settings.patch(_SETTINGS):
        program = torch.export.export(module, (example,), dynamic_shapes=shapes)
        aoti_compile_and_package(program, package_path=str(package), inductor_configs=dict(_SETTINGS))


@contextmanager
def _workshop() -> Iterator[Path]:
    """A temporary folder that holds all of Inductor's caches, and silence, inside the ``with`` block."""
    import torch._inductor.codecache  # on import it asks for the cache's folder
    from torch._inductor.utils import fresh_cache

    disabled = logging.root.manager.disable
    with tempfile.TemporaryDirectory(prefix="vitlet-", ignore_cleanup_errors=True) as folder, warnings.catch_warnings():
        # Compilers of several layers warn of each other; none of it is about the user's model.
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            # Inductor's tables of patterns are made of traced examples, with random numbers in them.
            with fresh_cache(dir=folder), torch.random.fork_rng(devices=[]):
                yield Path(folder)
        finally:
            logging.disable(disabled)
