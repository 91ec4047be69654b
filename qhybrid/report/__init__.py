"""The report: runs and sweeps on one self-contained HTML page."""

from qhybrid.report.page import write_report_page

__all__ = ["write_report_page"]
