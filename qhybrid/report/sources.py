"""What a report is made of: run folders, sweep folders and ablations, read as plain values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from qhybrid.config import Recipe, read_yaml
from qhybrid.errors import DataError, QHybridError
from qhybrid.evaluation import load_trained
from qhybrid.evaluation.common import ON
from qhybrid.evaluation.diagnosis.diagnose import FILE as DIAGNOSIS
from qhybrid.evaluation.diagnosis.diagnose import FOLDER as DIAGNOSES
from qhybrid.evaluation.diagnosis.diagnose import read_diagnosis
from qhybrid.experiments.ablations.results import RESULT, read_result
from qhybrid.experiments.sweeps.run import SWEEP
from qhybrid.experiments.sweeps.store import RUNS, CellStore
from qhybrid.experiments.sweeps.tables import read_cells, read_results
from qhybrid.report.labels import OUTDATED
from qhybrid.training.run_folder import ENVIRONMENT, META, METRICS, RECIPE, read_recipe
from qhybrid.workspace import whole_files

DATA_RECORD = "data.json"


@dataclass
class RunSource:
    """A trained run.

    Attributes:
        name: What the report calls it.
        folder: The run folder.
        recipe: Its recipe.
        settings: Recipe keys that tell it from runs of the same name.
        curves: Its metrics by epoch; None where the file is missing.
        environment: What it was trained with; empty where the file is missing.
        evaluations: metrics.json of each evaluation, by the name of its folder.
        other_data: The same of evaluations on other data than the run's own, or on data that were read in
            another way.
        data_record: Which data it was trained on; empty where the file is missing.
        diagnoses: diagnosis.json of each diagnosis, by the name of its folder.
    """

    name: str
    folder: Path
    recipe: Recipe
    settings: dict[str, Any] = field(default_factory=dict)
    curves: pd.DataFrame | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    other_data: dict[str, dict[str, Any]] = field(default_factory=dict)
    data_record: dict[str, Any] = field(default_factory=dict)
    diagnoses: dict[str, dict[str, Any]] = field(default_factory=dict)
    _model: Any = field(default=None, repr=False)

    def load_model(self) -> Any:
        """Return the trained model.

        Raises:
            CheckpointError: If the run folder is damaged.
        """
        if self._model is None:
            self._model = load_trained(self.folder).model
        return self._model


@dataclass
class SweepSource:
    """A sweep.

    Attributes:
        folder: The sweep folder.
        name: Its name.
        description: What its file says of it.
        results: Means over seeds.
        cells: All cells.
        runs: What was kept of each run, by the hash of its weights.
        trained: The run folders that are still there.
        failures: What failed.
    """

    folder: Path
    name: str
    description: str
    results: pd.DataFrame
    cells: pd.DataFrame
    runs: dict[str, dict[str, Any]]
    trained: list[RunSource]
    failures: list[dict[str, Any]]

    def cell(self, key: str) -> dict[str, Any] | None:
        """Return the result of a cell; None if its file is gone or damaged."""
        return CellStore(self.folder).load(key)


@dataclass
class AblationSource:
    """An ablation.

    Attributes:
        folder: Its folder.
        result: Content of its ablation.json.
    """

    folder: Path
    result: dict[str, Any]

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"{self.result['name']}, ablation"


Source = RunSource | SweepSource | AblationSource


def read_source(path: str | Path) -> Source:
    """Read a run folder, a sweep folder, or the folder of an ablation.

    Raises:
        CheckpointError: If the result of an ablation is damaged.
        DataError: If it is none of them, or a file is damaged.
        ConfigError: If its recipe is damaged.
    """
    folder = Path(path)
    if (folder / RESULT).is_file():
        return AblationSource(folder, read_result(folder))
    if (folder / SWEEP).is_file():
        return read_sweep(folder)
    if (folder / RECIPE).is_file():
        return read_run(folder)
    raise DataError(
        f"{folder}: must be a run folder or a sweep folder, but has neither {RECIPE} nor {SWEEP}. Fix: give "
        "a folder that `qhybrid train`, `qhybrid sweep` or `qhybrid ablate` printed."
    )


def read_run(folder: Path, name: str = "", settings: dict[str, Any] | None = None) -> RunSource:
    """Read a run folder; what is not there is left out."""
    recipe = read_recipe(folder)
    run = RunSource(name or recipe.name, folder, recipe, settings or {})
    if (folder / METRICS).is_file():
        run.curves = _read_curves(folder / METRICS)
    if (folder / ENVIRONMENT).is_file():
        run.environment = _read_json(folder / ENVIRONMENT)
    for file in sorted(folder.glob("evaluation/*/metrics.json")):
        content, name = _read_json(file), file.parent.name
        if _is_outdated(folder, content):
            content[OUTDATED] = True
        apart = name.startswith(ON) or content.get("on") or content.get("read_as")
        (run.other_data if apart else run.evaluations)[name] = content
    for file in sorted(folder.glob(f"{DIAGNOSES}/*/{DIAGNOSIS}")):
        if (diagnosis := read_diagnosis(file.parent)) is not None:
            run.diagnoses[file.parent.name] = diagnosis
    if (folder / DATA_RECORD).is_file():
        run.data_record = _read_json(folder / DATA_RECORD)
    return run


def _is_outdated(folder: Path, found: dict[str, Any]) -> bool:
    """Return whether training has gone on since an evaluation, which is one of weights no longer there."""
    meta = folder / str(found.get("which")) / META
    if "epoch" not in found or not meta.is_file():
        return False
    return bool(_read_json(meta).get("epoch") != found["epoch"])


def read_sweep(folder: Path) -> SweepSource:
    """Read a sweep folder.

    Raises:
        DataError: If a table is missing or damaged.
    """
    content = read_yaml(folder / SWEEP)
    kept = [_read_json(file) for file in whole_files(folder / RUNS, ".json")]
    cells = read_cells(folder)
    by_weights = {run["facts"]["weights"]: run for run in kept}
    # In the order of the sweep file.
    used = dict.fromkeys(cells["weights"]) if len(cells) else {}
    runs = {weights: by_weights[weights] for weights in used if weights in by_weights}
    failures = folder / "failures.json"
    return SweepSource(
        folder,
        str(content.get("name", folder.name)),
        str(content.get("description", "")),
        read_results(folder),
        cells,
        runs,
        [run for run in (_run_of_sweep(one) for one in runs.values()) if run is not None],
        _read_json(failures) if failures.is_file() else [],
    )


def _run_of_sweep(kept: dict[str, Any]) -> RunSource | None:
    """Return a run of a sweep; None if its folder is not on this machine."""
    try:
        return read_run(Path(kept["folder"]), kept["name"], kept["facts"]["settings"])
    except QHybridError:
        return None


def _read_curves(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path).select_dtypes("number")
        return table.dropna(subset=["epoch"]).groupby("epoch").last().dropna(axis="columns", how="all")
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: must be a run's table of epochs, but cannot be read: {error}.") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: must be JSON, but cannot be read: {error}. Fix: make it anew.") from error


def plain_yaml(content: Any) -> str:
    """Return plain values as YAML text for readers."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=90)
