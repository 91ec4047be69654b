"""What stands on the page, as plain values and ready-made drawings; the template only lays it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qhybrid.evaluation.common import ON
from qhybrid.experiments.sweeps.profiles import ALL_TO_ALL
from qhybrid.metrics import DASH, find_metric, metrics_in
from qhybrid.report.circuit_cards import CircuitCard, circuit_cards
from qhybrid.report.confusion import ConfusionTable, confusion_table
from qhybrid.report.curves import learning_curves
from qhybrid.report.hardware_part import HardwarePart, hardware_part
from qhybrid.report.labels import (
    settings_label,
    short_hash,
)
from qhybrid.report.parts import Figure, Table
from qhybrid.report.pictures import png_file
from qhybrid.report.sources import RunSource, SweepSource, plain_yaml
from qhybrid.report.sweep_part import SweepPart, sweep_part


@dataclass
class Content:
    """The whole page."""

    title: str
    lead: str
    runs: Table | None
    curves: list[Figure]
    run_confusions: list[ConfusionTable]
    run_pictures: list[Figure]
    hardware: list[HardwarePart]
    sweeps: list[SweepPart]
    circuits: list[CircuitCard]
    provenance: Table
    files: list[tuple[str, str]]


def build_content(sources: Sequence[RunSource | SweepSource], title: str) -> Content:
    """Return the content of a report."""
    single = [source for source in sources if isinstance(source, RunSource)]
    sweeps = [source for source in sources if isinstance(source, SweepSource)]
    listed = [*single, *(run for sweep in sweeps for run in sweep.trained)]
    everything = list({run.folder.resolve(): run for run in reversed(listed)}.values())[::-1]
    devices = sorted(
        {str(one) for sweep in sweeps if len(sweep.cells) for one in sweep.cells["mapping"]} - {ALL_TO_ALL}
    )
    names = [*(run.name for run in single), *(sweep.name for sweep in sweeps)]
    return Content(
        title or ", ".join(dict.fromkeys(names)),
        _lead(single, sweeps),
        _runs_table(single) if single else None,
        [Figure(caption, drawing) for caption, drawing in learning_curves(everything)],
        [table for name, run in _titled(single) for table in _run_confusions(name, run)],
        [figure for name, run in _titled(single) for figure in _run_pictures(name, run)],
        [part for run in single if (part := hardware_part(run.name, run.folder)) is not None],
        [sweep_part(sweep, f"sweep{number}") for number, sweep in enumerate(sweeps) if len(sweep.results)],
        circuit_cards(everything, devices),
        _provenance(everything),
        [(run.name, plain_yaml(run.recipe.model_dump(mode="json"))) for run in single]
        + [(sweep.name, (sweep.folder / "sweep.yaml").read_text(encoding="utf-8")) for sweep in sweeps],
    )


def _lead(single: Sequence[RunSource], sweeps: Sequence[SweepSource]) -> str:
    parts = [run.recipe.description for run in single] + [sweep.description for sweep in sweeps]
    return " ".join(dict.fromkeys(part for part in parts if part))


def _runs_table(runs: Sequence[RunSource]) -> Table:
    """Return one row a metric of every evaluation of a run; a run without one has a row without a value."""
    rows = []
    for run in runs:
        head = (run.name, str(run.recipe.model["name"]), run.recipe.data.dataset, str(run.recipe.seed))
        epochs = "–" if run.curves is None or run.curves.empty else str(int(run.curves.index.max()))
        elsewhere = {_shown_name(name): found for name, found in run.other_data.items()}
        for name, found in ((run.evaluations or {"–": {}}) | elsewhere).items():
            metrics = metrics_in(found)
            for key, value in metrics.items():
                shown = find_metric(key)
                rows.append((*head, epochs, name, shown.label, shown.direction, shown.show(value)))
            if not metrics:
                rows.append((*head, epochs, name, DASH, DASH, DASH))
    heads = ("run", "model", "data", "seed", "epochs", "evaluation", "metric", "better", "value")
    return Table(heads, rows, (3, 4, 8))


def _titled(runs: Sequence[RunSource]) -> list[tuple[str, RunSource]]:
    """Return runs with titles: their names, with the seed where several have the same."""
    names = [run.name for run in runs]
    return [
        (f"{run.name}, seed {run.recipe.seed}" if names.count(run.name) > 1 else run.name, run)
        for run in runs
    ]


def _run_confusions(title: str, run: RunSource) -> list[ConfusionTable]:
    tables = []
    for name, found in run.evaluations.items():
        names = found.get("class_names") or list(found.get("classes", {}))
        counts = found.get("confusion") or found.get("confusion_matrix")
        if names and counts and len(names) == len(counts):
            tables.append(confusion_table(f"{title}, {name}", names, counts))
    return tables


def _run_pictures(title: str, run: RunSource) -> list[Figure]:
    files = [run.folder / "samples.png", *sorted(run.folder.glob("evaluation/*/samples.png"))]
    return [
        Figure(f"{title}: samples of {_shown_name(file.parent.name)}.", image=png_file(file), plate=True)
        for file in files
        if file.is_file()
    ]


def _shown_name(folder: str) -> str:
    """Return what an evaluation's folder is called; other data than the run's own are named as such."""
    return f"other data, {folder.removeprefix(ON)}" if folder.startswith(ON) else folder


def _provenance(runs: Sequence[RunSource]) -> Table:
    rows = []
    for run in runs:
        made = run.environment
        git = made.get("git") or {}
        commit = short_hash(git.get("commit", "")) + (" (modified)" if git.get("modified") else "")
        packages = made.get("packages", {})
        versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "qiskit") if packages.get(name))
        settings = settings_label(run.settings)
        rows.append(
            (
                f"{run.name}{', ' if settings else ''}{settings}",
                str(run.recipe.seed),
                str(made.get("created", "–")),
                f"qhybrid {made['qhybrid']}, {versions}" if "qhybrid" in made else "–",
                commit or "–",
                str(run.folder),
            )
        )
    return Table(("run", "seed", "trained", "with", "commit", "folder"), rows, (1,))
