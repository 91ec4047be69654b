"""`qhybrid init`: lay out a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qhybrid.cli.console import say, short


def init(
    folder: Annotated[Path, typer.Argument(help="The workspace; created if it does not exist.")],
) -> None:
    """Lay out a workspace: starter circuits/, noise_profiles/, runs/. Existing files are not overwritten."""
    from qhybrid.workspace import lay_out_starter

    for file in lay_out_starter(folder):
        say(f"wrote {short(file)}")
