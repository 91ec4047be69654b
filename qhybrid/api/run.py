"""`Run`: a trained run as an object for scripts, and how one comes about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qhybrid.api.lookup import find_run, run_folder
from qhybrid.api.recipes import EngineLike, RecipeLike, Settings, as_engine, as_list, as_recipe
from qhybrid.workspace import data_below
from qhybrid.workspace import data_root as default_data_root

if TYPE_CHECKING:
    import pandas as pd

    from qhybrid.api.maps import SceneProgress
    from qhybrid.api.plans import Plan
    from qhybrid.config import Recipe
    from qhybrid.evaluation import Diagnosis, Evaluation
    from qhybrid.inference import MapOutcome
    from qhybrid.training.images.run import LoadedImageRun
    from qhybrid.training.preparation import TrainingStart
    from qhybrid.training.run_folder import LoadedRun, Which

FilePath = str | Path


def train(
    recipe: RecipeLike,
    *,
    settings: Settings | None = None,
    data_root: FilePath | None = None,
    output: FilePath | None = None,
    test: bool | None = None,
    on_start: Callable[[TrainingStart], None] | None = None,
) -> Run:
    """Train the model of a recipe.

    A training that is interrupted leaves a folder that `resume` goes on with. In a script that `torchrun`
    has started in several processes they train together; see `docs/cluster.md`.

    Args:
        recipe: A name in ./runs or of the package, a file, a mapping, or a recipe.
        settings: Values that replace those of the recipe, as in {"training.epochs": 3}.
        data_root: Folder of the data sets; QHYBRID_DATA or ./data if absent.
        output: A new run folder; runs/NAME/<time> if absent.
        test: True: the test split must be there and usable; False: it is not looked at; None: it must be
            usable if it is there.
        on_start: Told what is about to be trained, before the first step.

    Returns:
        The trained run.

    Raises:
        QHybridError: For an invalid recipe, unusable data, a folder in the way, a full disk, or a loss that
            is not finite.
    """
    from qhybrid.training import train as train_into

    checked = as_recipe(recipe, settings)
    with joined_run_folder(None if output is None else Path(output), checked.name) as folder:
        train_into(checked, default_data_root(data_root), folder, test=test, on_start=on_start)
    return Run(folder)


@contextmanager
def joined_run_folder(given: Path | None, name: str) -> Iterator[Path]:
    """Join the processes that `torchrun` has started, and give all of them the run folder of the first.

    Args:
        given: The folder that the user wants; None for a new one.
        name: Of the recipe.

    Raises:
        ConfigError: If processes may be restarted, and no folder was given.
        TrainingError: If the processes cannot be joined.
    """
    from qhybrid.training.ranks import check_restarts, from_first, joined

    with joined() as own, ExitStack() as stack:
        check_restarts(own, given)
        yield from_first(lambda: stack.enter_context(run_folder(given, name)))


def resume(
    run: FilePath,
    *,
    recipe: Recipe | None = None,
    settings: Settings | None = None,
    data_root: FilePath | None = None,
    test: bool | None = None,
    on_start: Callable[[TrainingStart], None] | None = None,
) -> Run:
    """Go on with a training that was interrupted, from its last complete epoch.

    Args:
        run: Its folder, or its name in ./runs.
        recipe: The run's recipe if absent; of another one only `training.progress` and `training.loggers`
            may differ.
        settings: The same, as values by dotted key.
        data_root: As for `train`.
        test: As for `train`.
        on_start: As for `train`.

    Raises:
        QHybridError: As `train`; a CheckpointError if there is nothing to go on with.
    """
    from qhybrid.training import train as train_into
    from qhybrid.training.run_folder import read_recipe

    folder = find_run(str(run))
    checked = as_recipe(recipe or read_recipe(folder), settings)
    train_into(checked, default_data_root(data_root), folder, resume=True, test=test, on_start=on_start)
    return Run(folder)


def open_run(run: FilePath) -> Run:
    """Return a trained run from its folder, or the newest one of a name in ./runs.

    Raises:
        CheckpointError: If there is none.
    """
    return Run(find_run(str(run)))


@dataclass(frozen=True)
class Run:
    """A trained run.

    Attributes:
        folder: The run folder; a text is taken as its path.
    """

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))

    @property
    def recipe(self) -> Recipe:
        """The recipe, with all defaults.

        Raises:
            CheckpointError: If it is missing or damaged.
        """
        from qhybrid.training.run_folder import read_recipe

        return read_recipe(self.folder)

    @property
    def history(self) -> pd.DataFrame:
        """What was measured while it was trained: one row an epoch (metrics.csv).

        Raises:
            CheckpointError: If it is missing or damaged.
        """
        import pandas as pd

        from qhybrid.errors import CheckpointError
        from qhybrid.training.run_folder import METRICS

        file = self.folder / METRICS
        try:
            return pd.read_csv(file)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{file}: must be the table of a training, but is not ({error})."
            ) from error

    def load(self, which: Which = "best", *, data_root: FilePath | None = None) -> LoadedRun | LoadedImageRun:
        """Load model, classes and statistics of the bands; `load().model` is a torch module.

        Args:
            which: Weights of the `best` or of the `last` epoch.
            data_root: Folder that weights of others are looked up in; QHYBRID_DATA or ./data if absent.

        Raises:
            CheckpointError: If the folder is incomplete or damaged.
        """
        from qhybrid.evaluation import load_trained

        with data_below(default_data_root(data_root)):
            return load_trained(self.folder, which)

    def evaluate(
        self,
        split: str = "test",
        *,
        engine: EngineLike | None = None,
        noise: FilePath | None = None,
        shots: int | None = None,
        engine_options: Settings | None = None,
        layers: Sequence[str] | None = None,
        which: Which = "best",
        data_root: FilePath | None = None,
        output: FilePath | None = None,
        on: RecipeLike | None = None,
        baselines: bool = False,
        diagnose: bool = True,
        bands: Sequence[int] | None = None,
        scale: float | None = None,
        resolution: float | None = None,
        device: str = "auto",
        progress: Callable[[int, int], None] | None = None,
    ) -> Evaluation:
        """Evaluate on every scene or image of a split: one confusion matrix.

        Args:
            split: `train`, `val` or `test`.
            engine: What executes the circuits, as in `aer`; the recipe's engine if absent.
            noise: Noise profile: a file, or a name that `qhybrid noise list` shows.
            shots: Shots of every measured basis; exact values if absent.
            engine_options: The engine's own options.
            layers: Quantum layers that this engine executes, the others are exact; all if absent.
            which: Weights of the `best` or of the `last` epoch.
            data_root: Folder of the data sets; QHYBRID_DATA or ./data if absent.
            output: Folder for metrics and pictures; below the run if absent.
            on: Other data: a recipe, or a folder of images and masks.
            baselines: Also score references that no network needs.
            diagnose: Also find out on a few samples whether the model uses its circuits.
            bands: Numbers of the scenes' bands in the model's order; by name if absent.
            scale: Factor that turns the scenes' numbers into those of training.
            resolution: Metres a pixel that scenes are resampled to.
            device: Where the model runs: auto, cpu or cuda.
            progress: Told of (windows or images done, all of them).

        Returns:
            The result: `found["miou"]` is a metric, `found.metrics` all of them, `found.folder` where they
            were written.

        Raises:
            QHybridError: See `qhybrid.evaluation.evaluate_run`.
        """
        from qhybrid.evaluation import evaluate_run

        return evaluate_run(
            self.folder,
            split,
            as_engine(engine, noise, shots, engine_options),
            data_root,
            output,
            which,
            progress,
            baselines=baselines,
            device=device,
            layers=layers,
            bands=bands,
            scale=scale,
            resolution=resolution,
            on=_other_data(on),
            diagnose=diagnose,
        )

    def predict(
        self,
        scenes: FilePath | Sequence[FilePath],
        output: FilePath,
        *,
        engine: EngineLike | None = None,
        noise: FilePath | None = None,
        shots: int | None = None,
        engine_options: Settings | None = None,
        overlap: float | None = None,
        which: Which = "best",
        bands: Sequence[int] | None = None,
        scale: float | None = None,
        resolution: float | None = None,
        device: str = "auto",
        data_root: FilePath | None = None,
        progress: SceneProgress | None = None,
        done: Callable[[MapOutcome], None] | None = None,
        scheduler: str | None = None,
        **options: Any,
    ) -> list[MapOutcome]:
        """Map scenes of any size; finished maps are kept, and an interrupted one goes on.

        Args:
            scenes: One or several: files, URLs, folders, archives, patterns.
            output: The GeoTIFF to write, or a folder of maps that are named as their scenes.
            engine: As for `evaluate`.
            noise: As for `evaluate`.
            shots: As for `evaluate`.
            engine_options: As for `evaluate`.
            overlap: Fraction of a window that neighbours share; the recipe's if absent.
            which: Weights of the `best` or of the `last` epoch.
            bands: As for `evaluate`.
            scale: As for `evaluate`.
            resolution: As for `evaluate`.
            device: As for `evaluate`.
            data_root: Folder that weights of others are looked up in.
            progress: Told of each scene before it is mapped; returns what is told of its windows.
            done: Told of each scene after that.
            scheduler: Dask cluster that does the work: the address of its scheduler, or `local:N` for N
                processes on this machine. Maps are the same bytes as without.
            **options: Fields of `qhybrid.inference.MapOptions` and `Products`, as in `probabilities=True`,
                `overwrite=True`, `polygons="gpkg"`.

        Returns:
            What became of each scene; `outcome.files[0]` is its map.

        Raises:
            ConfigError: If an option is unknown or wrong.
            DataError: If scenes could not be mapped; the others are.
            WorkspaceError: If a file is in the way, or cannot be written.
        """
        from qhybrid.api.maps import MapRequest, RunSource
        from qhybrid.cluster import check_scheduler
        from qhybrid.evaluation import routed_to_its_device

        check_scheduler(scheduler)
        request = MapRequest.of(as_list(scenes), output, options)
        chosen = as_engine(engine, noise, shots, engine_options)
        source = RunSource(
            self.folder.absolute(),
            which,
            None if chosen is None else routed_to_its_device(chosen).model_dump_json(),
            None if bands is None else tuple(bands),
            scale,
            resolution,
            default_data_root(data_root).absolute(),
        )
        common: dict[str, Any] = {
            "overlap": overlap,
            "device": device,
            "scheduler": scheduler,
            "source": source,
        }
        return request.write(source(), progress=progress, done=done, **common)

    def diagnose(self, split: str = "test", **options: Any) -> Diagnosis:
        """Replace the outputs of the circuits, and judge whether the model uses them; nothing is trained.

        Args:
            split: `train`, `val` or `test`.
            **options: As for `qhybrid.evaluation.diagnose_run`: layers, margin, samples, seed, ...

        Returns:
            The diagnosis; `found.verdict` is a sentence.

        Raises:
            QHybridError: See `qhybrid.evaluation.diagnose_run`.
        """
        from qhybrid.evaluation import diagnose_run

        if isinstance(options.get("layers"), str):
            options["layers"] = [options["layers"]]
        return diagnose_run(self.folder, split, **options)

    def plan(
        self, *, again: bool = False, say: Callable[[str], None] = lambda _: None, **request: Any
    ) -> Plan:
        """Map, check and price this model's work on a device; send nothing.

        Args:
            again: Make a new plan also where one of this request is there already.
            say: Told what is done.
            **request: Fields of `qhybrid.PlanRequest`, as in `backend="fake_torino"`, `limit=16`.

        Raises:
            QHybridError: See `qhybrid.plan`.
        """
        from qhybrid.api.plans import plan

        return plan(self.folder, again=again, say=say, **request)

    def report(self, output: FilePath | None = None, title: str = "") -> Path:
        """Write one HTML page about the run and return where it is; report.html of the run if absent."""
        from qhybrid.report import write_report_page

        target = self.folder / "report.html" if output is None else Path(output)
        return write_report_page([self.folder], target, title)


def _other_data(on: RecipeLike | None) -> Recipe | Path | None:
    """Return other data as evaluation takes them: a folder, or a recipe."""
    if on is None:
        return None
    if isinstance(on, str | Path) and Path(on).exists():
        return Path(on)
    return as_recipe(on)
