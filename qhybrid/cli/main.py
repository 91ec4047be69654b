"""The `qhybrid` command: its subcommands, and how errors reach the user."""

from __future__ import annotations

import gc
import os
import sys
from typing import Annotated

import typer
from rich.text import Text

from qhybrid.cli import (
    ablate,
    calibrate,
    circuits,
    compare,
    data,
    demo,
    diagnose,
    doctor,
    evaluate,
    hardware,
    init,
    noise,
    predict,
    report,
    sweep,
    train,
    tune,
)
from qhybrid.cli.console import errors, tell_warnings
from qhybrid.cli.waiting import wait_passively
from qhybrid.errors import QHybridError
from qhybrid.plugins import VARIABLE, name_plugins
from qhybrid.version import __version__

DEBUG_VARIABLE = "QHYBRID_DEBUG"
OBJECTS = 10_000
LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"

app = typer.Typer(
    name="qhybrid",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.init)
app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")
app.add_typer(circuits.app, name="circuits")
app.add_typer(hardware.app, name="hardware")
app.add_typer(noise.app, name="noise")
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("diagnose")(diagnose.diagnose)
app.command("compare")(compare.compare)
app.command("predict")(predict.predict)
app.command("sweep")(sweep.sweep)
app.command("tune")(tune.tune)
app.command("ablate")(ablate.ablate)
app.command("report")(report.report)
app.command("calibrate")(calibrate.calibrate)
app.command("doctor")(doctor.doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qhybrid {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help=f"Show tracebacks of errors, as {DEBUG_VARIABLE}=1 does.")
    ] = False,
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            "--plugin",
            metavar="MODULE",
            help="Load code of others, a module or a .py file, before the command; may be repeated. "
            f"{VARIABLE} does the same (separated by commas).",
        ),
    ] = None,
) -> None:
    """Image models with Qiskit circuits inside: train them, evaluate them, map scenes with them."""
    if plugin or os.environ.get(
        VARIABLE
    ):  # a plugin that was named and fails is one error, not one a look-up
        name_plugins(plugin or [])


def execute(arguments: list[str]) -> int:
    """Run a command line.

    Args:
        arguments: The words after `qhybrid`.

    Returns:
        The exit code: 0, 1 for an error of class QHybridError, 2 for wrong usage, 130 after Ctrl-C.
    """
    try:
        app(args=arguments, prog_name="qhybrid")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except QHybridError as error:
        if "--debug" in arguments or os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"):
            raise
        errors.print(Text.assemble(("error: ", "bold red"), (str(error), "")), soft_wrap=True)
        return 1
    return 0


def run() -> None:
    """Entry point of the `qhybrid` script."""
    use_large_pages()
    wait_passively()
    tell_warnings()
    collect_seldom()
    sys.exit(execute(sys.argv[1:]))


def collect_seldom() -> None:
    """Have Python look for garbage after 10,000 new objects, not after 700, or later if the user says so.

    Imports make a million objects and no garbage; looking at them again and again is a seventh of a start.
    """
    gc.set_threshold(max(OBJECTS, gc.get_threshold()[0]))


def use_large_pages() -> None:
    """Have torch ask Linux for large memory pages, unless the user has decided otherwise.

    Tensors of a training step are allocated anew in every step; with pages of 4 KiB 20 to 28 % of
    a U-Net's step goes into mapping them. torch reads the variable at its first allocation.
    """
    os.environ.setdefault(LARGE_PAGES, "1")
