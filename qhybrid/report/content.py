"""What stands on the page, as plain values and ready-made drawings; the template only lays it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qhybrid.experiments.sweeps.profiles import ALL_TO_ALL
from qhybrid.experiments.sweeps.runs import run_names
from qhybrid.metrics import DASH, find_metric, metrics_in
from qhybrid.report.ablation_part import AblationPart, ablation_part
from qhybrid.report.circuit_cards import DRAWINGS, CircuitCard, circuit_cards
from qhybrid.report.curves import learning_curves
from qhybrid.report.diagnosis_part import UsePart, use_part
from qhybrid.report.hardware_part import HardwarePart, hardware_part
from qhybrid.report.labels import counted, settings_label, short_hash
from qhybrid.report.parts import Figure, Table
from qhybrid.report.pictures import Pictures
from qhybrid.report.routing_curves import routing_curves
from qhybrid.report.run_part import (
    EvaluationPart,
    counts_of,
    evaluation_parts,
    evaluations_of,
    training_facts,
    validation_pictures,
)
from qhybrid.report.sources import AblationSource, RunSource, Source, SweepSource, plain_yaml
from qhybrid.report.sweep_part import SweepPart, sweep_part

PICTURES = 1_800_000
"""Characters of all pictures of runs together."""


@dataclass
class Content:
    """The whole page."""

    title: str
    lead: str
    runs: Table | None
    training: Table | None
    use: UsePart | None
    curves: list[Figure]
    evaluations: list[EvaluationPart]
    elsewhere: list[EvaluationPart]
    validation: list[Figure]
    remarks: list[str]
    hardware: list[HardwarePart]
    sweeps: list[SweepPart]
    circuits: list[CircuitCard]
    provenance: Table
    files: list[tuple[str, str]]
    ablations: list[AblationPart]


def build_content(sources: Sequence[Source], title: str, share: float = 1.0) -> Content:
    """Return the content of a report.

    Args:
        sources: Runs, sweeps and ablations.
        title: Heading; the names of the sources if empty.
        share: Part of the usual size that pictures and drawings may have; 0: there are none.
    """
    single = [source for source in sources if isinstance(source, RunSource)]
    for run, name in zip(single, run_names([(run.folder, run.recipe) for run in single]), strict=True):
        run.name = name
    sweeps = [source for source in sources if isinstance(source, SweepSource)]
    listed = [*single, *(run for sweep in sweeps for run in sweep.trained)]
    everything = list({run.folder.resolve(): run for run in reversed(listed)}.values())[::-1]
    devices = sorted(
        {str(one) for sweep in sweeps if len(sweep.cells) for one in sweep.cells["mapping"]} - {ALL_TO_ALL}
    )
    ablations = [source for source in sources if isinstance(source, AblationSource)]
    names = [*(run.name for run in single), *(sweep.name for sweep in sweeps)]
    names += [one.name for one in ablations]
    titled = _titled(single)
    pictures = Pictures(int(share * PICTURES), sum(len(_picture_files(run)) for run in single))
    return Content(
        title or ", ".join(dict.fromkeys(names)),
        _lead(single, sweeps),
        _runs_table(single) if single else None,
        training_facts(titled) if single else None,
        use_part(titled, pictures),
        [Figure(*one) for one in (*learning_curves(everything, single), *routing_curves(everything))],
        evaluations=evaluation_parts(titled, pictures),
        elsewhere=evaluation_parts(titled, pictures, elsewhere=True),
        validation=validation_pictures(titled, pictures),
        remarks=_remarks(pictures),
        hardware=[part for run in single if (part := hardware_part(run.name, run.folder)) is not None],
        sweeps=[
            sweep_part(sweep, f"sweep{number}") for number, sweep in enumerate(sweeps) if len(sweep.results)
        ],
        circuits=circuit_cards(everything, devices, largest=int(share * DRAWINGS)),
        provenance=_provenance(everything),
        files=[(run.name, plain_yaml(run.recipe.model_dump(mode="json"))) for run in single]
        + [(sweep.name, (sweep.folder / "sweep.yaml").read_text(encoding="utf-8")) for sweep in sweeps],
        ablations=[ablation_part(one, f"ablation{number}") for number, one in enumerate(ablations)],
    )


def _picture_files(run: RunSource) -> list[Path]:
    """Return the files that `use_part`, `validation_pictures` and `evaluation_parts` show of a run."""
    names = ("diagnosis/*/diagnosis.png", "samples.png", "evaluation/*/samples.png", "evaluation/*/map.png")
    return [file for name in names for file in run.folder.glob(name)]


def _remarks(pictures: Pictures) -> list[str]:
    if not pictures.left_out:
        return []
    more = f"{counted(pictures.left_out, 'more picture')} {'is' if pictures.left_out == 1 else 'are'}"
    return [f"{more} in the run folders, so that this page stays small."]


def _lead(single: Sequence[RunSource], sweeps: Sequence[SweepSource]) -> str:
    parts = [run.recipe.description for run in single] + [sweep.description for sweep in sweeps]
    return " ".join(dict.fromkeys(part for part in parts if part))


def _runs_table(runs: Sequence[RunSource]) -> Table:
    """Return one row a metric of every evaluation of a run; a run without one has a row without a value."""
    rows = []
    for run in runs:
        head = (run.name, str(run.recipe.model["name"]), run.recipe.data.dataset, str(run.recipe.seed))
        epochs = "–" if run.curves is None or run.curves.empty else str(int(run.curves.index.max()))
        evaluations = [(label, found) for _, label, found in evaluations_of(run)]
        for name, found in evaluations or [(DASH, {})]:
            metrics = metrics_in(found)
            if counts_of(found) is not None:
                # Numbers of single classes have a table of their own.
                metrics = {key: value for key, value in metrics.items() if " " not in key}
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
