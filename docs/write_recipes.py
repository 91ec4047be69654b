"""Writes docs/recipes.md from the docstrings of the configuration classes: `python docs/write_recipes.py`.

A test compares the page with what this writes.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from qhybrid.config import Recipe
from qhybrid.config.sweeps import SweepConfig
from qhybrid.config.tuning import Distribution
from qhybrid.data import list_datasets
from qhybrid.data.datasets import dataset_class
from qhybrid.engine_kinds import ENGINES
from qhybrid.mitigations import MITIGATIONS
from qhybrid.models import MODELS
from qhybrid.models.arms import ARMS

TARGET = Path(__file__).with_name("recipes.md")

HEADER = """\
# Recipe keys

A recipe is one YAML file: `qhybrid train runs/NAME.yaml`. Unknown keys are errors. Any value can be replaced
on the command line: `--set training.epochs=3`. This page is written by `python docs/write_recipes.py`.
"""


def describe_keys(section: type[BaseModel]) -> dict[str, str]:
    """Return what the docstrings say of each key, those of base classes included."""
    found: dict[str, str] = {}
    for base in reversed(section.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        if issubclass(base, BaseModel) and "Attributes:" in text:
            entries = re.split(r"\n    (?=\w+:)", text.split("Attributes:")[1])
            pairs = (entry.split(":", 1) for entry in entries if ":" in entry)
            found |= {key.strip(): " ".join(value.split()) for key, value in pairs}
    return found


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the configuration class that a key holds one or several of."""
    candidates = [field.annotation]
    while candidates:
        current: Any = candidates.pop()
        if isinstance(current, type) and issubclass(current, BaseModel):
            return current
        candidates += getattr(current, "__args__", ())
    return None


def default_of(field: FieldInfo) -> str:
    """Return a key's default as YAML-like text."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "absent"
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, tuple):
        value = list(value)
    if value == "":
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def write_table(
    title: str, section: type[BaseModel], prefix: str = "", about: str = "", level: str = "##"
) -> list[str]:
    """Return the lines of a section's table, and of the tables of the sections inside it."""
    descriptions = describe_keys(section)
    lines = [f"\n{level} {title}\n", *([f"{about}.\n"] if about else [])]
    lines += ["| key | default | meaning |", "|---|---|---|"]
    inner: list[str] = []
    for name, field in section.model_fields.items():
        below = section_of(field)
        key = f"{prefix}{name}"
        lines.append(f"| `{key}` | {default_of(field)} | {descriptions[name].replace('|', chr(92) + '|')} |")
        if below is not None:
            several = "tuple" in str(field.annotation)
            inner += write_table(f"`{key}`", below, f"{key}[]." if several else f"{key}.", level="###")
    return lines + inner


def write_names() -> list[str]:
    """Return the tables of engines, mitigations and arms."""
    lines = ["", "## Engines", "", "| name | what it is | in sweeps |", "| --- | --- | --- |"]
    lines += [
        f"| `{name}` | {one.description} | {'yes' if one.sweeps else ''} |" for name, one in ENGINES.items()
    ]
    lines += ["", "## Error mitigation", "", "| name | what it does | what it needs | on hardware |"]
    lines.append("| --- | --- | --- | --- |")
    for name, one in MITIGATIONS.items():
        device = "" if one.device is None else "yes"
        lines.append(f"| `{name}` | {one.description} | {one.needs} | {device} |")
    lines += ["", "## Arms of an ablation", ""]
    said = (
        "`model.replace: {LAYER: ARM}` puts them in the place of quantum layers; see [ablate.md](ablate.md)."
    )
    lines.append(said)
    lines += ["", "| name | what it is |", "| --- | --- |"]
    lines += [f"| `{name}` | {one.description} |" for name, one in ARMS.items()]
    return lines


def write_page() -> str:
    """Return the whole page."""
    lines = [HEADER.rstrip("\n"), *write_table("The recipe", Recipe)]
    lines += write_table("The sweep file", SweepConfig)
    about = (
        "`qhybrid tune RECIPE --space FILE`: the file has one such section for each recipe key that is tuned"
    )
    lines += write_table("The search space of `qhybrid tune`", Distribution, "KEY.", about)
    lines += write_names()
    for name, entry in sorted(MODELS.items()):
        lines += write_table(f"`model` with `name: {name}`", entry.options, "model.", entry.description)
    for name in list_datasets():
        dataset = dataset_class(name)
        title = f"`data.options` with `dataset: {name}`"
        lines += write_table(title, dataset.Options, "data.options.", dataset.description)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(write_page(), encoding="utf-8")
