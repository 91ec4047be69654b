"""`qhybrid report`: runs and sweeps on one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qhybrid.api.lookup import find_report_sources
from qhybrid.cli.console import say_path


def report(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_OR_SWEEP...",
            help="Folders of runs, of several seeds, of sweeps or ablations, or the name of one in ./runs.",
        ),
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The HTML file.")] = None,
    title: Annotated[str, typer.Option(help="Heading; otherwise the names of runs and sweeps.")] = "",
) -> None:
    """Write one HTML page: tables, curves, charts, samples, circuits, provenance. It needs no network."""
    folders = [folder for source in sources for folder in find_report_sources(source)]
    target = output or folders[0] / "report.html"

    from qhybrid.report import write_report_page

    say_path("report", write_report_page(folders, target, title))
