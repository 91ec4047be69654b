"""`qhybrid init`: lay out a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qhybrid.cli.console import say, short


def init(
    folder: Annotated[Path, typer.Argument(help="The workspace; created if it does not exist.")],
    examples: Annotated[
        bool,
        typer.Option("--examples", help="Also all other circuits, profiles and recipes of the package."),
    ] = False,
) -> None:
    """Lay out a workspace: a circuit, noise profiles and recipes to begin with. No file is overwritten."""
    from qhybrid.workspace import lay_out_starter

    for file in lay_out_starter(folder, examples):
        say(f"wrote {short(file)}")
    if not examples:
        say("It is complete without data of your own; in it, try: qhybrid train digits_cnn")
        say(f"All other circuits, profiles and recipes: qhybrid init {short(folder)} --examples")
