"""What an ablation decides by, written before its first run and the same ever after."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qhybrid.config import Recipe
from qhybrid.config.tuning import TuneSpace
from qhybrid.errors import CheckpointError, ConfigError
from qhybrid.metrics import METRICS, OTHER_NAMES, metrics_of
from qhybrid.metrics.margin import check_margin
from qhybrid.training.kinds import headline, task_of
from qhybrid.training.named_parts import check_same_parts
from qhybrid.workspace import write_text

SETTINGS, NAMED = "settings.json", "named"
_SHOWN_ONLY = ("progress", "loggers", "threads")


@dataclass(frozen=True)
class Settings:
    """What must not change once results are known.

    Attributes:
        recipe: The recipe that all arms share, without what decides how it is shown.
        margin: Differences up to it do not matter.
        metric: What is compared.
        trials: Settings that are tried for each arm; 0 trains the recipe's own.
        space: Where they are drawn from; empty without trials.
        seed: Seed of the draws.
    """

    recipe: dict[str, Any]
    margin: float
    metric: str
    trials: int
    space: dict[str, Any]
    seed: int

    @classmethod
    def of(
        cls, recipe: Recipe, margin: float | None, metric: str | None, trials: int, space: TuneSpace | None
    ) -> Settings:
        """Return the settings of a recipe, whose key `ablation` stands where nothing is given.

        Raises:
            ConfigError: If the metric is unknown or is none of such data, or the margin is not above 0.
        """
        content = recipe.model_dump(mode="json", exclude={"description", "ablation"})
        content["training"] = {
            key: value for key, value in content["training"].items() if key not in _SHOWN_ONLY
        }
        chosen = metric or recipe.ablation.metric or headline(recipe)
        chosen = OTHER_NAMES.get(chosen, chosen)
        task = task_of(recipe)
        if task not in METRICS.get(chosen, "ablation.metric").tasks:
            known = ", ".join(one.key for one in metrics_of(task))
            raise ConfigError(
                f"Key `ablation.metric` must be a metric of {task} ({known}), but is `{chosen}`. Fix: one of "
                "these."
            )
        bound = recipe.ablation.margin if margin is None else margin
        check_margin(bound, chosen, "Key `ablation.margin`")
        drawn = {} if space is None or not trials else space.model_dump(mode="json")["space"]
        return cls(content, bound, chosen, trials, drawn, recipe.seed)


def keep_settings(output: Path, settings: Settings, named: Mapping[str, str]) -> None:
    """Write the settings of a new ablation, or check that those of a folder are the same.

    Args:
        output: Folder of the ablation.
        settings: What it decides by.
        named: Hashes of the files that the recipe names, as its circuits; see
            `qhybrid.training.named_parts`. Folders of earlier versions do not say them.

    Raises:
        ConfigError: If they are others: a margin that is chosen after the results proves nothing, and an arm
            of another circuit is no arm of this one.
        CheckpointError: If the file is damaged.
    """
    file = output / SETTINGS
    now = asdict(settings)
    if not file.is_file():
        write_text(file, json.dumps({**now, NAMED: dict(named)}, indent=2) + "\n")
        return
    before = read_settings(output)
    different = [key for key in now if key != "recipe" and before[key] != now[key]]
    different += _different_keys(before["recipe"], now["recipe"])
    if different:
        told = ", ".join(
            f"{key} ({before[key]}, now {now[key]})" if key in ("margin", "metric", "trials") else key
            for key in different
        )
        raise ConfigError(
            f"{file} was written before the first run, and must stay as it is, but these differ: {told}. "
            "Fix: leave them as they were, or give another --output."
        )
    kept = json.loads(file.read_text(encoding="utf-8")).get(NAMED, named)
    check_same_parts(file, kept, named)


def read_settings(output: Path) -> dict[str, Any]:
    """Return the settings of an ablation.

    Raises:
        CheckpointError: If there are none, or they are damaged.
    """
    file = output / SETTINGS
    try:
        content = dict(json.loads(file.read_text(encoding="utf-8")))
        return {key: content[key] for key in Settings.__dataclass_fields__}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file} must hold the settings of an ablation, but cannot be read ({error!r}). Fix: give the "
            "folder that `qhybrid ablate` printed, or another one."
        ) from error


def _different_keys(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    found = []
    for section in sorted(before.keys() | now.keys()):
        old, new = before.get(section), now.get(section)
        if isinstance(old, dict) and isinstance(new, dict):
            found += [
                f"{section}.{key}" for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)
            ]
        elif old != new:
            found.append(section)
    return found
