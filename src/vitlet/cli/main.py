"""``vitlet``: the list of commands, and what every one of them does with an error.

A command is one file here: parse, one call into the public API, print. Nothing heavy is imported
before a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import ParamSpec

import typer

from vitlet import __version__
from vitlet.cli import bench, classify, compare, compress, demo, distill, doctor, evaluate, inspect, verify
from vitlet.errors import VitletError

INTERRUPTED = 130  # what a shell gives for SIGINT: 128 + 2

_Parameters = ParamSpec("_Parameters")


def _guarded(command: Callable[_Parameters, None]) -> Callable[_Parameters, None]:
    """The command, with every expected error told in one sentence: exit 1, or 130 when interrupted."""

    @wraps(command)
    def guarded(*arguments: _Parameters.args, **options: _Parameters.kwargs) -> None:
        try:
            command(*arguments, **options)
        except VitletError as error:
            raise _failure(str(error)) from None
        except KeyboardInterrupt as interruption:
            raise _failure(str(interruption) or "interrupted; nothing was written", INTERRUPTED) from None
        except MemoryError:
            raise _failure("this machine has too little memory for that; try a smaller model, batch or image") from None
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of a pipe (head, less) went away: typer ends quietly
                raise
            where = f" ({error.filename})" if error.filename else ""
            raise _failure(f"the system refused: {error.strerror or error}{where}") from None

    return guarded


def _failure(message: str, code: int = 1) -> typer.Exit:
    typer.echo(f"error: {message}", err=True)
    return typer.Exit(code)


app = typer.Typer(
    name="vitlet",
    help="Vision Transformers made small and fast for the machine at hand, with the evidence.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("compress")(_guarded(compress.compress))
app.command("classify")(_guarded(classify.classify))
app.command("bench")(_guarded(bench.bench))
app.command("eval")(_guarded(evaluate.evaluate))
app.command("verify")(_guarded(verify.verify))
app.command("inspect")(_guarded(inspect.inspect))
app.command("compare")(_guarded(compare.compare))
app.command("distill")(_guarded(distill.distill))
app.command("demo")(_guarded(demo.demo))
app.command("doctor")(_guarded(doctor.doctor))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vitlet {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Say the version."),
) -> None:
    pass


def main() -> None:
    """Run the command line: exit code 0 done, 1 an error, 2 wrong usage, 130 interrupted."""
    # A polite kill ends like Ctrl-C, so that temporary folders are removed; and a shell's background
    # job, which starts with SIGINT ignored, can be interrupted all the same.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    app()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
