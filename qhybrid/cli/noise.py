"""`qhybrid noise`: list, show and make noise profiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from qhybrid.cli.console import say, say_path, say_table, short

if TYPE_CHECKING:
    from qhybrid.noise import NoiseProfile

app = typer.Typer(help="List, show and make noise profiles.", no_args_is_help=True)

PROFILE_HELP = "A YAML file, or a name that `list` shows."
OUTPUT_HELP = "The YAML file to write; in noise_profiles/ its name can be used like the others."
Output = Annotated[Path, typer.Option("--output", "-o", help=OUTPUT_HELP)]
WORST = 5


@app.command("list")
def list_() -> None:
    """List the profiles of ./noise_profiles and of the package."""
    from qhybrid.noise import NoiseProfile, profile_files

    table = Table("profile", "qubits", "date")
    table.add_column("what it is", overflow="fold")
    table.add_column("file", overflow="fold")
    for name, file in sorted(profile_files().items()):
        profile = NoiseProfile.load(file)
        table.add_row(name, _qubits(profile), profile.date or "-", profile.description, short(file))
    say_table(table)
    say("Devices for `qhybrid noise from-backend`: see `qhybrid noise devices`.")


@app.command()
def devices() -> None:
    """List the fake backends that profiles can be made from."""
    from qhybrid.devices import list_devices

    say(", ".join(list_devices()))


@app.command()
def show(profile: Annotated[str, typer.Argument(help=PROFILE_HELP)]) -> None:
    """Print a profile's rates; of a device the best, median and worst, and what to stay away from."""
    from qhybrid.noise import load_profile
    from qhybrid.noise.summary import summary, worst_gates

    found = load_profile(profile)
    for label, value in (
        ("profile", found.name),
        ("what it is", found.description),
        ("source", found.source),
        ("date", found.date),
        ("qubits", _qubits(found)),
        ("idle noise", found.idle),
        *([] if found.listed_only else [("basis", ", ".join(found.basis))]),
    ):
        say(f"{label:<13}{value or '-'}")
    table = Table("rate", "smallest", "median", "largest")
    for row in summary(found):
        table.add_row(row.label, *(f"{value:.4g}" for value in (row.smallest, row.median, row.largest)))
    say_table(table)
    worst = worst_gates(found, WORST)
    if worst:
        say(f"Worst pairs: {', '.join(f'{name} (p = {p:.3g})' for name, p in worst)}")


@app.command("from-backend")
def from_backend(
    backend: Annotated[str, typer.Argument(help="A fake backend, such as fake_torino.")],
    output: Output,
    idle: Annotated[bool, typer.Option("--idle", help="Qubits also relax while they wait.")] = False,
    symmetric_readout: Annotated[
        bool, typer.Option("--symmetric-readout", help="The mean of p01 and p10 for both, as Aer takes it.")
    ] = False,
) -> None:
    """Write the profile of a device's calibration."""
    from qhybrid.noise import NoiseProfile

    profile = NoiseProfile.from_backend(backend, symmetric_readout=symmetric_readout)
    if idle:
        profile = profile.model_copy(update={"idle": "scheduled"})
    say_path("profile", profile.model_copy(update={"name": output.stem}).save(output))


@app.command()
def scale(
    profile: Annotated[str, typer.Argument(help=PROFILE_HELP)],
    factor: Annotated[float, typer.Argument(help="What all rates are multiplied by; 0 is no noise.")],
    output: Output,
) -> None:
    """Write a profile with all rates multiplied by a factor."""
    from qhybrid.noise import load_profile

    say_path("profile", load_profile(profile).scale(factor).save(output))


def _qubits(profile: NoiseProfile) -> str:
    return str(len(profile.qubits)) if profile.listed_only else "any"
