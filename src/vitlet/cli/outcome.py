"""A verdict on a terminal, and as the exit code of the command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from vitlet.certify.certificate import Certificate
    from vitlet.certify.verdict import Outcome

#: 2 is wrong usage, 130 an interruption.
FAILED, INCONCLUSIVE = 3, 4


def print_certificate(console: Console, certificate: Certificate, about: str = "") -> None:
    """Print what is certain, in a sentence or two."""
    from rich.text import Text

    from vitlet.certify.sentences import latency_sentence, sentence

    style = {"fail": "red", "pass": "green", "inconclusive": "yellow"}.get(certificate.outcome or "", "")
    told = f"{about}{sentence(certificate)}"
    console.print(Text(f"{told[0].upper()}{told[1:]}.", style=style))
    if certificate.latency is not None:
        console.print(Text(f"Latency: {latency_sentence(certificate)}."))


def end_with(certificate: Certificate | None, *, asked: bool = False) -> None:
    """End the command with the code of a verdict that is no pass. Where one was ``asked`` for and there is none, the
    images were too few for it."""
    if certificate is None and asked:
        typer.echo("INCONCLUSIVE: too few images to keep some back for a verdict; give more with --data", err=True)
        raise typer.Exit(INCONCLUSIVE)
    end_with_outcome(None if certificate is None else certificate.outcome)


def end_with_outcome(outcome: Outcome | None) -> None:
    """End the command with the code of an outcome that is no pass."""
    codes = {"fail": FAILED, "inconclusive": INCONCLUSIVE}
    if outcome in codes:
        raise typer.Exit(codes[outcome])
