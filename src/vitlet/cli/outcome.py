"""The exit code of a command that gives a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from vitlet.certify.certificate import Certificate

#: 2 is wrong usage, 130 an interruption.
FAILED, INCONCLUSIVE = 3, 4


def end_with(certificate: Certificate | None) -> None:
    """End the command with the code of a verdict that is no pass; go on without one."""
    codes = {"fail": FAILED, "inconclusive": INCONCLUSIVE}
    if certificate is not None and certificate.outcome in codes:
        raise typer.Exit(codes[certificate.outcome])
