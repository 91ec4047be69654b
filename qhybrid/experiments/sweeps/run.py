"""`run_sweep`: train what has to be trained, compute the cells that are missing, write the tables."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qhybrid.cluster import check_workers, run_jobs
from qhybrid.config import to_yaml
from qhybrid.config.sweeps import SweepConfig, SweepGrid
from qhybrid.errors import ConfigError
from qhybrid.evaluation.subject.subject import Subject
from qhybrid.experiments.sweeps.cells import TRAINED, Cell, Conditions, SweepRun, cell_key, list_cells
from qhybrid.experiments.sweeps.earlier import take_over
from qhybrid.experiments.sweeps.later_metrics import lacking, with_metrics
from qhybrid.experiments.sweeps.profiles import ALL_TO_ALL, SweepProfiles
from qhybrid.experiments.sweeps.runs import check_run, describe_run, run_names
from qhybrid.experiments.sweeps.store import CellStore, write_failures, write_run
from qhybrid.experiments.sweeps.tables import build_tables
from qhybrid.experiments.sweeps.training import TrainedRun, list_trainings
from qhybrid.experiments.sweeps.worker import FAILED, PREDICTIONS, loaded_subject, measuring_job, run_job
from qhybrid.noise import NoiseProfile
from qhybrid.noise.library import IDEAL
from qhybrid.training.run_folder import read_recipe
from qhybrid.workspace import data_root as default_data_root
from qhybrid.workspace import write_text

SWEEP = "sweep.yaml"
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass
class SweepOutcome:
    """What a sweep left behind.

    Attributes:
        folder: The sweep folder: sweep.yaml, cells/, runs/, cells.parquet, results.parquet, failures.json.
        cells: Number of cells in the tables.
        computed: Number of cells that were computed now; the others were there.
        measured: Number of finished cells to which metrics were added now.
        taken: Number of finished cells of earlier versions that hold for these data and were taken over.
        doubtful: Number of results of earlier versions, cells and trained runs, that were made anew because
            their data may have changed since.
        unknown: Metrics that finished cells lack and that only a new computation can give: number of cells.
        failures: What failed: `key`, `what`, `error`, `details` each.
    """

    folder: Path
    cells: int = 0
    computed: int = 0
    measured: int = 0
    taken: int = 0
    doubtful: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)


def sweep_folder(name: str) -> Path:
    """Return where the results of a sweep go by default; always the same, so that it resumes."""
    return Path("runs") / name / "sweep"


def run_sweep(
    config: SweepConfig,
    data_root: str | Path | None = None,
    output: str | Path | None = None,
    *,
    processes: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
    recompute: bool = False,
) -> SweepOutcome:
    """Evaluate trained runs under noise, shots, devices and mitigation.

    A finished cell is kept under the hash of all that decides it, every byte of images and masks included,
    and never computed again: a sweep that was stopped goes on, and one that was extended computes what is
    new. A cell that fails is reported, and computed again the next time. A metric that was added later is
    computed from the predictions that finished cells keep. Where there are none (cells of earlier versions),
    or where it needs probabilities of label maps, its value is missing, and `unknown` says so.

    Scripts that use several processes need `if __name__ == "__main__":`.

    Args:
        config: The sweep; `runs` are run folders and `train.recipe` recipe files.
        data_root: Folder that the recipes' `data.root` is relative to; QHYBRID_DATA or ./data if absent.
        output: The sweep folder; `sweep_folder(name)` if absent.
        processes: Processes on this machine; all usable cores if absent.
        scheduler: Address of a Dask scheduler instead; its workers need the same files at the same paths.
        progress: Called as cells finish.
        recompute: Compute cells again whose missing metrics cannot be had otherwise.

    Raises:
        QHybridError: Before anything is computed, if a run, a profile, a device or the data are unusable;
            later if results cannot be written (finished cells are kept).
    """
    check_workers(processes, scheduler)
    folder = Path(output) if output else sweep_folder(config.name)
    sweep = _Sweep(config, default_data_root(data_root).absolute(), folder.absolute(), progress)
    write_text(folder / SWEEP, to_yaml(config))
    work = {"processes": processes, "scheduler": scheduler}
    outcome = SweepOutcome(folder)
    trained = sweep.train(outcome, **work)
    cells = sweep.plan(trained)
    sweep.compute(cells, outcome, recompute=recompute, **work)
    sweep.measure(cells, outcome, **work)
    build_tables(folder, cells, sweep.settings)
    write_failures(folder, outcome.failures)
    failed = {failure["key"] for failure in outcome.failures if failure["cell"]}
    outcome.cells = sum(cell.key not in failed for cell in cells)
    return outcome


class _Sweep:
    """The steps of one call of `run_sweep`."""

    def __init__(self, config: SweepConfig, data_root: Path, folder: Path, progress: Progress | None) -> None:
        section = config.sweep
        self.section, self.data_root, self.folder = section, data_root, folder
        self.profiles = SweepProfiles()
        self.progress = progress or (lambda what, done, total: None)
        self.settings: dict[str, Any] = {
            "which": section.which,
            "split": section.split,
            "samples": section.samples,
            "trajectories": section.trajectories,
            "transpile_seed": section.transpile_seed,
            "zne": section.zne.model_dump(mode="json"),
            "data_root": str(data_root),
            "sweep": uuid.uuid4().hex,  # what is loaded for this call is not used in the next
        }
        # Mistakes in names show before the first training starts.
        for grid in section.grids:
            for name in grid.profiles:
                for factor in grid.scales:
                    self.profiles.scaled(name, factor)
        self.profiles.check_labels()
        self.training = list_trainings(section.train, folder, data_root)

    def train(self, outcome: SweepOutcome, **work: Any) -> list[TrainedRun]:
        """Train the runs of the training grids that are not finished; return those that are."""
        outcome.doubtful += sum(run.doubtful for run in self.training)
        waiting = {run.key: run for run in self.training if not run.finished}
        jobs = [run.job(self.data_root, self.section.split) for run in waiting.values()]
        for done, answer in enumerate(run_jobs(jobs, run_job, **work), start=1):
            self.progress("training", done, len(waiting))
            if "error" in answer:
                run = waiting[answer["key"]]
                what = {"run": run.recipe.name, **run.settings, "seed": run.recipe.seed}
                outcome.failures.append({**answer, "what": what, "cell": False})
        return [run for run in self.training if run.finished]

    def plan(self, trained: Sequence[TrainedRun]) -> list[Cell]:
        """Load every run once, check it, and return all cells."""
        grids = self.section.grids
        folders = [Path(folder) for folder in self.section.runs]
        names = run_names([(folder, read_recipe(folder)) for folder in folders])
        wanted: list[tuple[Path, str, dict[str, Any], bool]] = [
            (folder.absolute(), name, {}, False) for folder, name in zip(folders, names, strict=True)
        ]
        wanted += [(run.folder, run.recipe.name, run.settings, True) for run in trained]
        cells: list[Cell] = []
        known: dict[tuple[str, str, str], SweepRun] = {}
        for number, (folder, name, settings, own) in enumerate(wanted):
            self.progress("loading", number, len(wanted))
            subject = self._subject(str(folder))
            # A model without circuits that is trained beside others is their reference: it has one value.
            reference = own and not subject.layers
            run = self._describe(subject, name, settings, () if reference else grids)
            _check_is_no_copy(run, known.setdefault(_averaged_as(run), run))
            if own:
                cells.append(self._trained_cell(run))
            if not reference:
                cells += list_cells([run], grids, self.profiles, self.settings)
        return cells

    def _describe(
        self, subject: Subject, name: str, settings: dict[str, Any], grids: Sequence[SweepGrid]
    ) -> SweepRun:
        if grids or subject.layers:
            check_run(subject, grids, self.profiles, self.settings["transpile_seed"])
        run = describe_run(subject, name, subject.which, settings)
        write_run(self.folder, run, subject)
        return run

    def _subject(self, folder: str) -> Subject:
        chosen = (self.settings[key] for key in ("which", "split", "samples", "data_root", "sweep"))
        return loaded_subject(folder, *chosen)

    def _trained_cell(self, run: SweepRun) -> Cell:
        """Return the cell of a run on the engine that it was trained on."""
        engine = run.facts["engine"]
        layers, options = engine.get("layers"), engine["options"]
        device = options.get("backend") if engine["kind"] == "routed" else None
        profile, scale = engine.get("noise") or device or IDEAL, float(options.get("scale", 1.0))
        conditions = Conditions(
            TRAINED,
            profile,
            scale,
            shots=engine["shots"],
            seed=engine["seed"],
            mapping=device or ALL_TO_ALL,
            layers="all" if layers is None else tuple(layers),
        )
        if device is not None and not engine.get("noise"):
            noise: NoiseProfile | None = NoiseProfile.from_backend(device).scale(scale)
        else:
            noise = self.profiles.scaled(profile, scale)
        return Cell(run, conditions, noise, cell_key(run, conditions, noise, self.settings))

    def compute(self, cells: Sequence[Cell], outcome: SweepOutcome, recompute: bool, **work: Any) -> None:
        """Compute the cells that are missing; keep each as soon as it is there."""
        store = CellStore(self.folder)
        by_key = {cell.key: cell for cell in cells}
        missing = store.missing(cell.key for cell in cells)
        earlier = take_over(
            [by_key[key] for key in missing], store, lambda run: self._subject(run.folder), self.settings
        )
        outcome.taken, outcome.doubtful = len(earlier.taken), outcome.doubtful + len(earlier.doubtful)
        missing = [key for key in missing if key not in earlier.taken]
        if recompute:
            missing += [one.cell.key for one in lacking(cells, store) if one.unknown]
        total = len(by_key)
        self.progress("cells", total - len(missing), total)
        jobs = [by_key[key].job(self.settings) for key in missing]
        for done, answer in enumerate(run_jobs(jobs, run_job, **work), start=1):
            if "error" in answer:
                outcome.failures.append({**answer, "what": _what(by_key[answer["key"]]), "cell": True})
            else:
                result = answer["result"]
                store.save_predictions(answer["key"], result.pop(PREDICTIONS))
                _note_failed_metrics(by_key[answer["key"]], result, outcome)
                store.save(answer["key"], result)
                outcome.computed += 1
            self.progress("cells", total - len(missing) + done, total)

    def measure(self, cells: Sequence[Cell], outcome: SweepOutcome, **work: Any) -> None:
        """Add metrics that finished cells lack, as far as what was kept of them allows."""
        store = CellStore(self.folder)
        tried = {(failure["key"], failure.get("metric")) for failure in outcome.failures}
        found, jobs = {one.cell.key: one for one in lacking(cells, store)}, []
        for key, one in found.items():
            outcome.unknown |= {name: outcome.unknown.get(name, 0) + 1 for name in one.unknown}
            metrics = [name for name in one.metrics if (key, name) not in tried]
            if metrics:
                confusion, file = one.found["confusion"], store.predictions(key)
                jobs.append(measuring_job(one.cell, self.settings, metrics, confusion, file))
        for done, answer in enumerate(run_jobs(jobs, run_job, **work), start=1):
            one = found[answer["key"]]
            if "error" in answer:
                outcome.failures.append({**answer, "what": _what(one.cell), "cell": False})
            else:
                _note_failed_metrics(one.cell, answer["result"], outcome)
                if answer["result"]["measured"]:
                    store.save(answer["key"], with_metrics(one.found, answer["result"]))
                    outcome.measured += 1
            self.progress("metrics", done, len(jobs))


def _averaged_as(run: SweepRun) -> tuple[str, str, str]:
    """Return what runs have in common that are averaged over, and their weights."""
    return run.name, json.dumps(run.facts["settings"], sort_keys=True), run.facts["weights"]


def _check_is_no_copy(run: SweepRun, other: SweepRun) -> None:
    """Check that a run is not another one's copy, which would count as a second, independent training.

    Raises:
        ConfigError: If it is.
    """
    if run is not other:
        raise ConfigError(
            f"{run.folder}: must be another training than {other.folder}, but has the same weights, so that "
            "means over runs would count it twice. Fix: leave one of them out of the sweep."
        )


def _what(cell: Cell) -> dict[str, Any]:
    return {"run": cell.run.name, **cell.run.facts["settings"], **cell.conditions.to_dict()}


def _note_failed_metrics(cell: Cell, result: dict[str, Any], outcome: SweepOutcome) -> None:
    """List the metrics that could not be computed as failures; the next call tries them again."""
    for name, message in result.pop(FAILED).items():
        failure = {"key": cell.key, "metric": name, "error": message, "details": message}
        outcome.failures.append({**failure, "what": _what(cell), "cell": False})
