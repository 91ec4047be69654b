"""`qhybrid doctor`: what of this machine and installation decides whether qhybrid runs, and how fast."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from qhybrid.cli.console import say

WIDTH = 18


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list, for bug reports.")] = False,
) -> None:
    """Say what is installed and what is missing: versions, device, threads, kernels, data, account, disk.

    It ends with code 1 if something does not work, or much more slowly, until it is mended.
    """
    from qhybrid.api.doctor import examine

    found = examine()
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
    else:
        for one in found:
            say(f"{one.topic:<{WIDTH}}{one.value}")
            if one.fix:
                say(f"{'':<{WIDTH}}{'Fix' if one.hurts else 'Hint'}: {one.fix}")
        broken = [one.topic for one in found if one.hurts]
        say(f"To mend: {', '.join(broken)}" if broken else "Nothing to mend.")
    if any(one.hurts for one in found):
        raise typer.Exit(1)
