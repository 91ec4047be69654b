"""`qhybrid diagnose`: what a trained model does with its circuits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qhybrid.api.lookup import find_run
from qhybrid.cli.console import say, say_path, say_table, stage_bars
from qhybrid.cli.evaluate import RUN_HELP, Device, WhichWeights, check_which
from qhybrid.cli.hashing import hashing_bar
from qhybrid.cli.train import DATA_ROOT_HELP
from qhybrid.workspace import data_root as find_data_root

if TYPE_CHECKING:
    from rich.table import Table


def diagnose(
    run: Annotated[str, typer.Argument(help=RUN_HELP)],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", help="A quantum layer to look at; all if absent. May be repeated."),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="Differences up to it do not matter, as a fraction: 0.005 is half a point of accuracy. "
            "Absent: the recipe's `ablation.margin`."
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(help="Images, or windows of scenes, drawn at random; otherwise the whole split."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides what is drawn.")] = 0,
    which: WhichWeights = "best",
    data_root: Annotated[Path | None, typer.Option(help=DATA_ROOT_HELP)] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results; otherwise below the run.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Replace the outputs of a trained model's circuits, and say whether it uses them. Nothing is trained."""
    folder = find_run(run)
    weights = check_which(which)

    from qhybrid.api import Run
    from qhybrid.evaluation.diagnosis.diagnose import FILE, PICTURE

    with stage_bars() as show, hashing_bar():
        found = Run(folder).diagnose(
            split,
            layers=layer,
            margin=margin,
            samples=samples,
            seed=seed,
            which=weights,
            data_root=find_data_root(data_root),
            device=device,
            output=output,
            show=show,
        )
    for target in found.content["targets"]:
        say_table(replaced_table(found.content, target))
    for line in layer_lines(found.content):
        say(line)
    for target in found.content["targets"]:
        say(target["sentence"])
    say_path("numbers", found.folder / FILE)
    say_path("pictures", found.folder / PICTURE)
    if found.again:
        say("These weights, data and options were diagnosed before: read back.")


def replaced_table(content: Mapping[str, Any], target: Mapping[str, Any]) -> Table:
    """Return the table of the replacements of some layers."""
    from rich.table import Table

    from qhybrid.evaluation.diagnosis.wording import show, show_difference
    from qhybrid.metrics import DASH, metric_label

    key, label = content["metric"], metric_label(content["metric"])
    title = f"{target['label']}, {content['split']} split, {content['units']} {content['unit']}"
    margin = show_difference(key, content["options"]["margin"], sign=False)
    table = Table(
        title=title, title_justify="left", caption=f"equivalent: within {margin}", caption_justify="left"
    )
    for head in ("outputs", label, "difference", "95 % interval", "verdict"):
        table.add_column(head, justify="left" if head in ("outputs", "verdict") else "right")
    table.add_row("as trained", show(key, content["trained"]["value"]), "", "", "", end_section=True)
    for row in target["replaced"]:
        ends = row["difference_low"], row["difference_high"]
        interval = DASH if None in ends else ", ".join(show_difference(key, end, unit=False) for end in ends)
        difference = show_difference(key, row["difference"])
        table.add_row(row["label"], show(key, row["value"]), difference, interval, _short_verdict(key, row))
    return table


def _short_verdict(key: str, row: Mapping[str, Any]) -> str:
    """Return the verdict on a replacement, with what this sample finds where it is not decidable."""
    from qhybrid.evaluation.diagnosis.wording import show_difference
    from qhybrid.metrics.verdict import NOT_DECIDABLE

    if row["verdict"] != NOT_DECIDABLE or row["detectable"] is None:
        return str(row["verdict"])
    return f"{row['verdict']}\nbelow {show_difference(key, row['detectable'], sign=False)}"


def layer_lines(content: Mapping[str, Any]) -> list[str]:
    """Return what is known of each layer beside its replacements, a few lines each."""
    from qhybrid.evaluation.diagnosis.wording import fitted_on, shots_said

    lines = []
    for name, layer in content["layers"].items():
        share = layer["share_of_parameters"]
        passes = layer["share_of_output_variance"]
        size = f"{layer['trained_parameters']:,} of {layer['parameters']:,} trained parameters"
        size += "" if share is None else f" ({100 * share:.3g} %)"
        through = "" if passes is None else f", {100 * passes:.3g} % of the logits' variance"
        lines.append(f"{name}: {layer['circuit']}, {layer['qubits']} qubits, {size}{through}")
        fits = _surrogates(layer, fitted_on(content))
        lines += [f"  {line}" for line in (_angles(layer), fits, _gradients(layer)) if line]
    lines += [f"shots: {shots_said(content)}"]
    return lines


def _angles(layer: Mapping[str, Any]) -> str:
    angles = layer["angles"]
    if angles is None:
        return ""
    said = (
        f"angles from {angles['smallest']:+.2f} to {angles['largest']:+.2f} rad, standard deviation "
        f"{angles['std']:.2f}, on {100 * angles['arcs']:.0f} % of the circle"
    )
    return said if angles["saturated"] is None else f"{said}, {100 * angles['saturated']:.1f} % saturated"


def _surrogates(layer: Mapping[str, Any], angles: str) -> str:
    known = {kind: value for kind, value in layer["surrogates"].items() if value is not None}
    if not known:
        return ""
    fits = ", ".join(f"{kind} {value:.3f}" for kind, value in known.items())
    return f"R² of surrogates on {angles}: {fits}"


def _gradients(layer: Mapping[str, Any]) -> str:
    found = layer["gradients"]
    if found is None:
        return "gradient norms in training: not recorded"
    parts = [f"{name} {one['first']:.2g} to {one['last']:.2g}" for name, one in found.items()]
    return f"gradient norm in training, first to last epoch: {', '.join(parts)}"
