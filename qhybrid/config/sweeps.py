"""Sweep files: what a YAML file in `runs/` with a key `sweep` may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from qhybrid.config.reading import read_yaml, validated
from qhybrid.config.strict import NoSwitch, StrictModel
from qhybrid.engine_kinds import check_sweep_engine
from qhybrid.errors import ConfigError
from qhybrid.mitigations import check_mitigation

SweepEngine = Annotated[str, AfterValidator(check_sweep_engine)]
Mitigation = Annotated[str, AfterValidator(check_mitigation)]
Shots = Annotated[int, NoSwitch, Field(ge=1)] | Literal["infinite"]
LayerChoice = Literal["all"] | Annotated[tuple[str, ...], Field(min_length=1)]


class SweepGrid(StrictModel):
    """Every combination of these is one cell.

    Attributes:
        profiles: Noise profiles: names in noise_profiles/ or YAML files.
        scales: Factors on the error rates of each profile.
        shots: Shots of each measured basis, or `infinite` for exact values.
        seeds: Seeds of shots and trajectories; a cell without random draws is computed once for all of them.
        engines: What executes the circuits: `exact`, `aer_density_matrix`, `aer_trajectories`, or a plugin's
            engine.
        mappings: `auto` (profiles of a device are routed to it, others run as written), `all_to_all`, or the
            name of a fake device.
        mitigations: `none`, `readout` (correction from the profile), `zne` (zero-noise extrapolation),
            `readout_zne` (both), or a plugin's mitigation.
        layers: Quantum layers that noise and shots apply to, each `all` or a list of names; the others are
            exact.
    """

    profiles: tuple[str, ...] = Field(("ideal",), min_length=1)
    scales: tuple[Annotated[float, Field(ge=0)], ...] = Field((1.0,), min_length=1)
    shots: tuple[Shots, ...] = Field(("infinite",), min_length=1)
    seeds: tuple[Annotated[int, NoSwitch, Field(ge=0)], ...] = Field((0,), min_length=1)
    engines: tuple[SweepEngine, ...] = Field(("exact",), min_length=1)
    mappings: tuple[str, ...] = Field(("auto",), min_length=1)
    mitigations: tuple[Mitigation, ...] = Field(("none",), min_length=1)
    layers: tuple[LayerChoice, ...] = Field(("all",), min_length=1)

    @field_validator("*")
    @classmethod
    def _entries_differ(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(f"entries must differ, but {', '.join(twice)} occur(s) more than once")
        return values


class ExtrapolationConfig(StrictModel):
    """How zero-noise extrapolation is done.

    Attributes:
        scales: Factors on the gates' error rates; each takes its own shots.
        extrapolation: `richardson` (polynomial through all points) or `linear` (least squares).
    """

    scales: tuple[Annotated[float, Field(ge=1)], ...] = Field((1.0, 2.0, 3.0), min_length=2)
    extrapolation: Literal["richardson", "linear"] = "richardson"

    @field_validator("scales")
    @classmethod
    def _scales_differ(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(scales)) < len(scales):
            raise ValueError("scales must differ")
        return scales


class TrainGrid(StrictModel):
    """Runs to train first: every combination of the listed values of recipe keys.

    Shots without an `engine.seed` are drawn by each run's own `seed`. In values `{seed}` stands for it, as in
    `training.start: runs/before/seed-{seed}`.

    Attributes:
        recipe: A recipe file, or its name in runs/.
        set: Recipe keys with one value for all runs, such as `training.epochs: 20`.
        vary: Recipe keys with a list of values, such as `engine.shots: [128, 1024]`.
    """

    recipe: str
    set: dict[str, Any] = Field(default_factory=dict)
    vary: dict[str, tuple[Any, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _each_key_has_values(self) -> TrainGrid:
        empty = [key for key, values in self.vary.items() if not values]
        both = sorted(set(self.set) & set(self.vary))
        if empty or both:
            raise ValueError(f"keys under `vary` need values and must not be under `set`: {empty + both}")
        return self


class SweepSection(StrictModel):
    """What is evaluated, and how.

    Attributes:
        runs: Run folders, or runs/NAME for its newest run; a training of several seeds is all its runs.
        train: Runs that the sweep trains first; each is also evaluated with the engine of its own recipe.
        which: Weights of the `best` or of the `last` epoch.
        split: `train`, `val` or `test`.
        samples: Images (or scenes) at most, from the first; all if absent.
        trajectories: Random trajectories that `aer_trajectories` averages over where shots are infinite.
        transpile_seed: Decides the layouts on devices.
        zne: Zero-noise extrapolation.
        grids: The cells: each grid is a product, and the sweep is their union.
    """

    runs: tuple[str, ...] = ()
    train: tuple[TrainGrid, ...] = ()
    which: Literal["best", "last"] = "best"
    split: Literal["train", "val", "test"] = "test"
    samples: int | None = Field(None, ge=1)
    trajectories: int = Field(1000, ge=1)
    transpile_seed: int = Field(0, ge=0)
    zne: ExtrapolationConfig = ExtrapolationConfig()
    grids: tuple[SweepGrid, ...] = ()

    @model_validator(mode="after")
    def _something_is_evaluated(self) -> SweepSection:
        if not self.runs and not self.train:
            raise ValueError("one of `runs` and `train` is needed")
        if self.runs and not self.grids:
            raise ValueError("`grids` needs at least one entry to evaluate the runs on")
        return self


class SweepConfig(StrictModel):
    """A whole sweep: `qhybrid sweep runs/NAME.yaml`.

    Attributes:
        name: Names the folder below runs/ that results go to.
        description: One sentence for readers.
        sweep: What is evaluated, and how.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    sweep: SweepSection


def is_sweep(content: dict[str, Any]) -> bool:
    """Return whether the content of a YAML file is a sweep, and no recipe."""
    return "sweep" in content


def load_sweep(path: str | Path) -> SweepConfig:
    """Read and check a sweep file.

    Raises:
        ConfigError: If the file is invalid, or a recipe.
    """
    content = read_yaml(path)
    if not is_sweep(content):
        raise ConfigError(
            f"{path}: must be a sweep, with a key `sweep`, but has none. Fix: qhybrid train is for recipes."
        )
    return validated(SweepConfig, content, str(path))
