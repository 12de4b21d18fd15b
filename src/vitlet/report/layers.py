"""Section: what quantizing each operation of the model costs, by simulation."""

from __future__ import annotations

from markupsafe import Markup

from vitlet.measure.operation_times import OperationTimes
from vitlet.report import sensitivity
from vitlet.report.data import ReportData

_NOT_TIMED = OperationTimes({}, reason="`vitlet inspect` measures what each operation takes")


def section(data: ReportData) -> Markup:
    """As the page of ``vitlet inspect`` has it; nothing where it was not looked into."""
    if data.sensitivities is None:
        return Markup()
    return sensitivity.section(data.sensitivities, _NOT_TIMED)
