"""One self-contained HTML page that says what was measured, from measurements alone.

``data`` is what the page is made of, ``page`` puts it together, and each section is one file:
``verdict``, ``tradeoff``, ``variants``, ``weight``, ``steadiness``, ``conditions``, ``recipe``.
"""

from vitlet.report.data import ReportData
from vitlet.report.page import render_report

__all__ = ["ReportData", "render_report"]
