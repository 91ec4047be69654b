"""`write_report_page`: the template filled in, and written whole or not at all."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import qhybrid
from qhybrid.errors import DataError
from qhybrid.report.content import build_content
from qhybrid.report.engine_part import NOTE
from qhybrid.report.sources import read_source
from qhybrid.workspace import write_text


def write_report_page(sources: Sequence[str | Path], output: str | Path, title: str = "") -> Path:
    """Write runs and sweeps as one HTML page that needs no network.

    Args:
        sources: Run folders and sweep folders.
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
    content = build_content([read_source(source) for source in sources], title)
    environment = Environment(
        loader=PackageLoader("qhybrid.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup(environment.get_template("style.css").render())  # our own file
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    page = environment.get_template("page.html").render(
        page=content, style=style, today=today, version=qhybrid.__version__, engines_note=NOTE
    )
    return write_text(output, page)
