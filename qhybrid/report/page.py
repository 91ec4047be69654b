"""`write_report_page`: the template filled in, and written whole or not at all."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from qhybrid.errors import DataError
from qhybrid.report.content import Content, build_content
from qhybrid.report.engine_part import NOTE
from qhybrid.report.sources import read_source
from qhybrid.version import __version__
from qhybrid.workspace import write_text

LARGEST = 3_000_000
"""Bytes of a page, which is sent by mail."""
SHARES = (1.0, 0.5, 0.25, 0.1, 0.0)
"""Sizes of pictures and drawings that are tried until the page is small enough."""


def write_report_page(sources: Sequence[str | Path], output: str | Path, title: str = "") -> Path:
    """Write runs and sweeps as one HTML page that needs no network, of less than 3 MB.

    Args:
        sources: Run folders, sweep folders, and folders of ablations.
        output: The HTML file; it appears whole or not at all.
        title: Heading of the page; the names of the sources if empty.

    Returns:
        `output`.

    Raises:
        DataError: If there is no source, or one is neither a run nor a sweep, or is damaged.
        WorkspaceError: If the page cannot be written.
    """
    if not sources:
        raise DataError("A report needs at least one run folder or sweep folder, but none is given.")
    read = [read_source(source) for source in sources]
    page = ""
    for share in SHARES:
        page = _render(build_content(read, title, share))
        if len(page.encode()) <= LARGEST:
            break
    return write_text(output, page)


def _render(content: Content) -> str:
    """Return the page as text."""
    environment = Environment(
        loader=PackageLoader("qhybrid.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup(environment.get_template("style.css").render())  # our own file
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return environment.get_template("page.html").render(
        page=content, style=style, today=today, version=__version__, engines_note=NOTE
    )
