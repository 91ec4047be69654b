"""The trials: drawn by Optuna, trained in run folders of their own, told back with their validation metric.

    tune.json           models, search space, seed, hashes of data and named files: the same when resumed
    study.db            Optuna's storage: what was drawn and what came of it
    trials/MODEL/NNN/   the run folder of each trial, and trial.json with its result
    trials.csv          all trials

A killed call leaves its trial drawn but not told: the same command trains it further from its last complete
epoch. What is drawn for trial n depends on the seed, n, and the trials before, so it does not matter whether
a call was interrupted; the first trials, which are drawn at random, are the same for all models.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from qhybrid.cluster import Answer, Job, Pool, check_scheduler, opened
from qhybrid.config import Recipe, validated
from qhybrid.config.numbers import whole_number
from qhybrid.config.tuning import Distribution, TuneSpace
from qhybrid.errors import (
    ConfigError,
    DataError,
    EngineError,
    TrainingError,
    WorkspaceError,
    optional_import,
)
from qhybrid.experiments.tuning.candidates import candidate_recipes, trial_recipe
from qhybrid.experiments.tuning.results import (
    RESULT,
    TrialRow,
    draw_trials,
    read_result,
    trial_folder,
    write_best,
    write_table,
)
from qhybrid.seeding import derive_seed
from qhybrid.training.data_record import training_identity
from qhybrid.training.kinds import check_validated, kept_score
from qhybrid.training.named_parts import check_same_parts, named_parts
from qhybrid.training.pictures import lost_pictures_warned
from qhybrid.training.ranks import check_alone
from qhybrid.training.run_folder import METRICS, RECIPE, training_ended
from qhybrid.workspace import locked, write_text

SETTINGS, STORAGE = "tune.json", "study.db"
_SHOWN_ONLY = ("progress", "loggers")


def tune(
    recipes: Mapping[str, Recipe],
    space: TuneSpace,
    data_root: Path,
    output: Path,
    *,
    trials: int = 20,
    seed: int = 0,
    scheduler: str | None = None,
    report: Callable[[TrialRow], None] = lambda _row: None,
) -> list[TrialRow]:
    """Search the same space with the same number of trials for each model, judged by validation alone.

    The test split is not used. Trials of the models take turns, so that an interrupted search has spent as
    much on each. A trial that diverges or is impossible is part of the budget, as a failed one.

    Args:
        recipes: Recipes by the label of their model, all on the same data.
        space: Recipe keys and the distributions of their values.
        data_root: Folder that `data.root` is relative to.
        output: Folder of the search; one of an earlier call goes on.
        trials: Trials of each model, those of earlier calls included.
        seed: Seed of what is drawn. The seeds of trainings are those of the recipes.
        scheduler: Dask cluster whose workers do the trainings, those of all models at the same time. What is
            drawn is the same as without; see `qhybrid.cluster.opened`.
        report: Called after each trial.

    Returns:
        All trials, those of earlier calls included, in the order of models and trials.

    Raises:
        ConfigError: If recipes and space do not fit together, or the folder belongs to another search.
        MissingDependencyError: If Optuna is not installed.
        QHybridError: If the data are not usable, or there is no validation split.
    """
    check_alone("A search")
    trials, seed = whole_number("trials", trials, 1), whole_number("seed", seed)
    if not recipes:
        raise ConfigError("A search needs a model, but has none.")
    optuna = optional_import("optuna", "tune")
    complete = candidate_recipes(recipes, space)
    for recipe in complete.values():
        check_validated(recipe, data_root)
    check_scheduler(scheduler)
    with _folder_of_search(output), opened(1, scheduler) as pool:
        _check_same_search(complete, space, seed, data_root, output)
        search = _Search(optuna, complete, space, data_root, output, seed)
        for number in range(1, trials + 1):
            for row in search.trials(number, pool):
                write_table(output, search.rows())
                report(row)
        rows = search.rows()
        write_table(output, rows)
        write_best(output, complete, rows)
        with lost_pictures_warned(output, "table and best recipes"):
            draw_trials(output, rows)
    return rows


@contextmanager
def _folder_of_search(output: Path) -> Iterator[None]:
    """Make the folder, and keep other processes out of it."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(f"{output} cannot be made ({error.strerror}). Fix: give another one.") from error
    with locked(output):
        yield


class _Search:
    """Studies of several models in one storage."""

    def __init__(
        self,
        optuna: Any,
        recipes: Mapping[str, Recipe],
        space: TuneSpace,
        data_root: Path,
        output: Path,
        seed: int,
    ) -> None:
        self.optuna, self.recipes, self.space = optuna, recipes, space
        self.data_root, self.output, self.seed = data_root, output, seed
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = optuna.storages.RDBStorage(f"sqlite:///{(output / STORAGE).resolve()}")
        self.studies = {
            label: optuna.create_study(
                study_name=label, storage=storage, direction="maximize", load_if_exists=True
            )
            for label in recipes
        }
        self.distributions = {key: _distribution(optuna, one) for key, one in space.space.items()}

    def trials(self, number: int, pool: Pool) -> Iterator[TrialRow]:
        """Draw, train and tell one trial of every model, unless that is done.

        The studies of models know nothing of each other, so it does not matter which trains first.
        """
        labels = list(self.recipes)
        # One process draws a trial when it is to be trained: a call that ends has drawn no other one.
        for together in [labels] if pool.several else [[label] for label in labels]:
            drawn = {label: self._draw(label, number) for label in together}
            open_ones = {label: trial for label, trial in drawn.items() if trial is not None}
            jobs = [
                self._job(label, trial.params, trial_folder(self.output, label, number))
                for label, trial in open_ones.items()
            ]
            for answer in pool.run(jobs, train_trial):
                yield self._tell(answer, open_ones[answer["key"]], number)

    def _draw(self, label: str, number: int) -> Any | None:
        """Return a trial that is drawn and not told yet; None if it is."""
        study = self.studies[label]
        states = self.optuna.trial.TrialState
        drawn = self._drawn(label)
        if number <= len(drawn):
            trial = drawn[number - 1]
            return trial if trial.state == states.RUNNING else None
        study.sampler = self.optuna.samplers.TPESampler(seed=derive_seed(self.seed, number) % 2**32)
        study.ask(self.distributions)
        return self._drawn(label)[number - 1]

    def _job(self, label: str, drawn: Mapping[str, Any], folder: Path) -> Job:
        recipe = self.recipes[label].model_dump(mode="json")
        values = self._values(drawn)
        where = {"root": self.data_root.absolute(), "folder": folder.absolute()}
        return {"key": label, "recipe": recipe, "values": values, **where}

    def _tell(self, answer: Answer, trial: Any, number: int) -> TrialRow:
        """Tell the study what came of a trial."""
        label = answer["key"]
        folder = trial_folder(self.output, label, number)
        result = read_result(folder)
        if result is None:
            why = answer.get("error", "it says no error")
            raise WorkspaceError(
                f"{folder}: a trial must leave a result, but has left none ({why}). Fix: see to the workers "
                "of the cluster (memory, versions, paths), and give the same command."
            )
        if result["value"] is None:
            self.studies[label].tell(trial.number, state=self.optuna.trial.TrialState.FAIL)
        else:
            self.studies[label].tell(trial.number, result["value"])
        return TrialRow.of(label, number, result, folder)

    def rows(self) -> list[TrialRow]:
        """Return all trials that have begun."""
        found = []
        for label in self.recipes:
            for number, trial in enumerate(self._drawn(label), 1):
                folder = trial_folder(self.output, label, number)
                unfinished = {"parameters": self._values(trial.params)}
                found.append(TrialRow.of(label, number, read_result(folder) or unfinished, folder))
        return found

    def _drawn(self, label: str) -> list[Any]:
        """Return the trials whose values are all drawn; one that was killed while it was drawn is none."""
        trials = self.studies[label].get_trials(deepcopy=False)
        return [trial for trial in trials if trial.params.keys() == self.distributions.keys()]

    def _values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of recipe keys; choices of any kind are text for Optuna."""
        return {
            key: json.loads(drawn[key]) if one.choices is not None else drawn[key]
            for key, one in self.space.space.items()
        }


def train_trial(job: Job) -> Answer:
    """Train a trial, or train it further, and write down its result, unless that is done."""
    folder, values, start = job["folder"], job["values"], time.monotonic()
    if read_result(folder) is not None:
        return {"key": job["key"]}
    result: dict[str, Any] = {"parameters": values, "value": None, "metric": None, "error": None}
    if folder.exists() and not (folder / RECIPE).is_file():
        shutil.rmtree(folder)  # killed before anything was trained
    try:
        recipe = trial_recipe(validated(Recipe, job["recipe"], str(folder)), values)
        quiet = recipe.training.model_copy(update={"progress": False})
        resume = (folder / RECIPE).is_file()
        if not (resume and training_ended(folder)):
            from qhybrid.training import train  # when needed: Lightning takes seconds

            shown = recipe.model_copy(update={"training": quiet})
            train(shown, job["root"], folder, resume=resume, test=False)
        result["metric"], result["value"] = kept_score(folder)
        if result["value"] is None:
            result["error"] = "The validation metric is not a number."
    except (TrainingError, ConfigError, EngineError) as error:
        # It says something about these values; what concerns all trials has been checked before.
        result["error"] = str(error)
    table = folder / METRICS
    # Of all calls, where the trial was interrupted.
    trained = pd.read_csv(table)["epoch_seconds"].sum() if table.is_file() else 0.0
    result["seconds"] = float(trained or time.monotonic() - start)
    write_text(folder / RESULT, json.dumps(result, indent=2) + "\n")
    return {"key": job["key"]}


def _distribution(optuna: Any, one: Distribution) -> Any:
    kinds = optuna.distributions
    if one.choices is not None:
        return kinds.CategoricalDistribution([json.dumps(choice) for choice in one.choices])
    if one.integer:
        return kinds.IntDistribution(int(one.low or 0), int(one.high or 0), log=one.log)
    return kinds.FloatDistribution(one.low, one.high, log=one.log)


def _check_same_search(
    recipes: Mapping[str, Recipe], space: TuneSpace, seed: int, data_root: Path, output: Path
) -> None:
    """Write the settings of a new search, or check that those of a folder are the same.

    Data and named files count by their content; searches of earlier versions do not say what they had.
    """
    content: dict[str, Any] = {
        "recipes": {label: recipe.model_dump(mode="json") for label, recipe in recipes.items()},
        "space": space.model_dump(mode="json")["space"],
        "seed": seed,
        "data": training_identity(next(iter(recipes.values())).data, data_root).hash,
        "named": {
            f"{name} ({label})": one
            for label, recipe in recipes.items()
            for name, one in _named(recipe, space).items()
        },
    }
    file = output / SETTINGS
    if not file.is_file():
        write_text(file, json.dumps(content, indent=2) + "\n")
        return
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
        pairs = [(before["recipes"], content["recipes"])]
        different = [key for key in ("space", "seed") if before[key] != content[key]]
        named = dict(before.get("named", content["named"]))
        data = before.get("data")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} is damaged: {error!r}. Fix: give another --output.") from error
    different += ["recipes" for old, new in pairs if _judged(old) != _judged(new)]
    if different:
        raise ConfigError(
            f"{file} is of a search with other {' and '.join(different)}: its trials cannot be compared with "
            "new ones. Fix: give another --output."
        )
    check_same_parts(file, named, content["named"])
    if None not in (data, content["data"]) and data != content["data"]:
        raise DataError(
            f"{file}: training and validation data must be those of the trials that are there, but have "
            "changed: new trials could not be compared with them. Fix: put the data back as they were, or "
            "give another --output."
        )


def _named(recipe: Recipe, space: TuneSpace) -> dict[str, str]:
    """Return the hashes of all that a recipe names, and of what choices of the space name."""
    found = named_parts(recipe)
    for key, one in space.space.items():
        for choice in one.choices or ():
            try:
                parts = named_parts(trial_recipe(recipe, {key: choice}))
            except ConfigError:  # an impossible choice is a failed trial
                continue
            new = {name: part for name, part in parts.items() if found.get(name) != part}
            found.update({f"{name}, {key}={choice}": part for name, part in new.items()})
    return found


def _judged(recipes: Mapping[str, Any]) -> dict[str, Any]:
    """Return recipes without what only decides how they are shown."""
    return {
        label: {
            **{key: value for key, value in recipe.items() if key != "description"},
            "training": {key: one for key, one in recipe["training"].items() if key not in _SHOWN_ONLY},
        }
        for label, recipe in recipes.items()
    }
