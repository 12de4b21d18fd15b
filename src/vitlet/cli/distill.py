"""``vitlet distill``: a teacher teaches a small ViT."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from vitlet.cli import options


def distill(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The student, a .safetensors file.")],
    data: Annotated[
        str, typer.Option("--data", "-d", metavar="NAME", help="A data set by name.")
    ] = "torchvision:FashionMNIST",
    objective: Annotated[
        Literal["hard", "none"],
        typer.Option(help="'hard': half from the label, half from the teacher's decision; 'none': no teacher."),
    ] = "hard",
    teacher: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A teacher trained before (default: a small ResNet is trained first)."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of the student (default: the recipe's).")] = None,
    teacher_epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of the teacher, likewise.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The student's highest, likewise.")] = None,
    warmup_epochs: Annotated[float | None, typer.Option(help="Epochs of rising learning rate, likewise.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Go on from this student's weights (default: random weights)."),
    ] = None,
    dtype: Annotated[Literal["float32", "float16"], typer.Option(help="Of the weights in --out.")] = "float32",
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and augmentation.")] = 0,
    work: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keeps the state after each epoch (default: beside --out).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training that is in --work.")] = False,
    threads: options.Threads = None,
    json: options.Json = None,
) -> None:
    """Train a small ViT in the DeiT way: hard-label distillation through a distillation token."""
    from dataclasses import replace

    from rich.console import Console

    from vitlet import pipeline
    from vitlet.cli.document import check_json_path, write_json
    from vitlet.cli.live import live_progress
    from vitlet.distill.recipe import STUDENT, TEACHER
    from vitlet.measure.environment import default_threads, environment
    from vitlet.records import to_json

    check_json_path(json)
    recipe = replace(
        STUDENT,
        seed=seed,
        epochs=epochs or STUDENT.epochs,
        learning_rate=STUDENT.learning_rate if learning_rate is None else learning_rate,
        warmup_epochs=STUDENT.warmup_epochs if warmup_epochs is None else warmup_epochs,
    )
    teacher_recipe = replace(TEACHER, seed=seed, epochs=teacher_epochs or TEACHER.epochs)
    with live_progress() as progress:
        done = pipeline.distill(
            data,
            out,
            objective=objective,
            teacher=teacher,
            start=start,
            recipe=recipe,
            teacher_recipe=teacher_recipe,
            work=work,
            dtype=dtype,
            resume=resume,
            threads=threads,
            progress=progress,
        )
    console = Console(stderr=json == "-", highlight=False)
    rows = []
    for role, run in (("teacher", done.teacher), ("student", done.student)):
        if run is not None:
            console.print(
                f"{role}: {run.model}, {run.parameters / 1e6:.2f} M parameters, {len(run.epochs)} epochs, "
                f"top-1 {100 * run.accuracy.top1:.2f} % of {run.test_images} test images",
                markup=False,
            )
            rows.append({"role": role, "status": "ok", **to_json(run)})
    console.print(f"Wrote {out}; try: vitlet compress {shlex.quote(str(out))} --data FOLDER --out FOLDER", markup=False)
    write_json(json, "distill", environment(threads or default_threads()), rows, model=str(out))
