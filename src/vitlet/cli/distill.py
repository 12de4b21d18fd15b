"""``vitlet distill``: a teacher teaches a small ViT."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vitlet.cli import options

if TYPE_CHECKING:
    from rich.console import Console

    from vitlet.distill.job import DistillResult
    from vitlet.results import Compressed

Changed = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change any setting of the recipe, as training.epochs=50."),
]


def distill(
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            metavar="DATA",
            help="A folder of class folders, torchvision:NAME (FashionMNIST, CIFAR10, CIFAR100, OxfordIIITPet, "
            "Flowers102, ImageNet) or hf:OWNER/NAME.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The student, a .safetensors file.")
    ] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", metavar="NAME", help="quick, deit, deit-384, bundled, or a .toml file.")
    ] = "quick",
    changed: Changed = None,
    print_recipe: Annotated[
        bool, typer.Option("--print-recipe", help="Print the whole recipe, to be edited and rerun, and stop.")
    ] = False,
    student: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The architecture that learns (default: the recipe's).")
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Begin with this model's weights (default: the recipe's).")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Pixels; positions are interpolated (default: the recipe's).")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Any classifier or bundle, or small-resnet to train one first."),
    ] = None,
    objective: Annotated[
        Literal["none", "soft", "hard"] | None,
        typer.Option(help="Learn from labels alone, the teacher's probabilities, or its decisions."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of the student (default: the recipe's).")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images of one step over all processes, likewise.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of weights, order and variations, likewise.")] = None,
    work: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keeps the state after each epoch (default: beside --out).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training that is in --work.")] = False,
    decisions: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Store the teacher's answers there, and use those that are."),
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write curves to --work/tensorboard.")] = False,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: a GPU where there is one.")] = "auto",
    shard: Annotated[bool, typer.Option("--shard", help="Under torchrun: FSDP instead of DDP.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read images (default: one a core but one, at most 16).")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", "-t", min=1, help="Threads of PyTorch.")] = None,
    data_root: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where a named data set lies, or is downloaded to.")
    ] = None,
    dtype: Annotated[Literal["float32", "float16"], typer.Option(help="Of the weights in --out.")] = "float32",
    then: Annotated[
        Literal["compress"] | None, typer.Option(help="compress: also write a bundle, beside --out as .vitlet.")
    ] = None,
    json: options.Json = None,
) -> None:
    """Train a small ViT that learns from a large teacher, in the way of DeiT.

    The recipe says all that shapes the result; print it with --print-recipe. On several devices or machines:
    torchrun --nproc-per-node 8 -m vitlet distill ...
    """
    from vitlet import pipeline
    from vitlet.cli.document import check_json_path
    from vitlet.cli.live import live_progress
    from vitlet.distill.recipe_file import load_recipe, recipe_text
    from vitlet.errors import InvalidValue

    shortcuts: dict[str, Any] = {
        "student.model": student,
        "student.start": start,
        "student.image_size": image_size,
        "teacher.model": teacher,
        "objective.kind": objective,
        "training.epochs": epochs,
        "training.batch": batch,
        "training.seed": seed,
        "teacher.training.seed": seed,
    }
    written = [f"{key}={_toml(value)}" for key, value in shortcuts.items() if value is not None]
    chosen = load_recipe(recipe, [*written, *(changed or [])])
    if print_recipe:
        typer.echo(recipe_text(chosen), nl=False)
        return
    if data is None or out is None:
        raise InvalidValue("name the images with --data and the student's file with --out")
    check_json_path(json)
    from vitlet.distill.job import Settings

    bundle = out.with_suffix(".vitlet")
    if then == "compress":
        from vitlet.bundle.write import check_writable

        check_writable(bundle, overwrite=False)
    settings = Settings(
        work=work,
        resume=resume,
        device=device,
        shard=shard,
        threads=threads,
        workers=_workers() if workers is None else workers,
        decisions=decisions,
        tensorboard=tensorboard,
        data_root=data_root,
        dtype=dtype,
    )
    if not _is_first():
        pipeline.distill(data, out, recipe=chosen, settings=settings)
        return
    with live_progress() as progress:
        done = pipeline.distill(data, out, recipe=chosen, settings=settings, progress=progress)
    from rich.console import Console

    console = Console(stderr=json == "-", highlight=False)
    _print(console, done, advise=then is None)
    compressed = _compressed(console, done, data, bundle, data_root) if then == "compress" else None
    _write(json, done, compressed)


def _compressed(console: Console, done: DistillResult, data: str, bundle: Path, data_root: Path | None) -> Compressed:
    """Go on with ``vitlet compress``, and print what it says."""
    from vitlet import pipeline
    from vitlet.cli.compress import print_compressed, typed
    from vitlet.cli.live import live_progress

    try:
        with live_progress() as progress:
            found = pipeline.compress_student(done, data, bundle, data_root, command=typed(), progress=progress)
    except KeyboardInterrupt:
        rest = shlex.join(["vitlet", "compress", str(done.path), "--data", data, "--out", str(bundle)])
        raise KeyboardInterrupt(f"interrupted; the student is in {done.path}: go on with {rest}") from None
    print_compressed(console, found)
    return found


def _print(console: Console, done: DistillResult, *, advise: bool) -> None:
    """Print what came of the training."""
    for role, run in (("teacher", done.teacher), ("student", done.student)):
        if run is not None:
            unreadable = run.epochs[-1].unreadable + run.unreadable_test_images
            console.print(
                f"{role}: {run.model}, {run.parameters / 1e6:.2f} M parameters, {len(run.epochs)} epochs, "
                f"top-1 {100 * run.accuracy.top1:.2f} % of {run.test_images} test images"
                + (f"; {unreadable} images cannot be read and were left out" if unreadable else ""),
                markup=False,
            )
    advice = f"; try: vitlet compress {shlex.quote(str(done.path))} --data FOLDER --out FOLDER" if advise else ""
    console.print(f"Wrote {done.path}{advice}", markup=False)


def _write(json: str | None, done: DistillResult, compressed: Compressed | None) -> None:
    """Write the JSON document: of the training, and of the bundle that came of it, if any."""
    from vitlet.cli.document import write_json
    from vitlet.measure.environment import environment
    from vitlet.measure.rows import as_rows
    from vitlet.records import to_json

    runs = (("teacher", done.teacher), ("student", done.student))
    rows = [{"role": role, "status": "ok", **to_json(run)} for role, run in runs if run is not None]
    bench = None if compressed is None else compressed.bench
    write_json(
        json,
        "distill",
        environment(done.student.threads),
        rows,
        model=str(done.path),
        recipe=to_json(done.recipe),
        bundle=None if compressed is None else str(compressed.bundle.path),
        certificate=None if compressed is None else compressed.certificate,
        variants=None if bench is None else as_rows(bench.measurements, bench.comparison),
    )


def _toml(value: str | int) -> str:
    return str(value) if isinstance(value, int) else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _workers() -> int:
    """A process for each core but one, shared by the processes that torchrun started on this machine; at most 16."""
    from vitlet.measure.cores import available_cores

    return min(16, max(0, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))


def _is_first() -> bool:
    """Whether this is the process that reports, of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"
