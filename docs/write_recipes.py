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
from qhybrid.data.images.image_datasets import IMAGE_DATASETS
from qhybrid.data.scene_datasets import _DATASETS
from qhybrid.models import MODELS

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


def write_table(title: str, section: type[BaseModel], prefix: str = "", about: str = "") -> list[str]:
    """Return the lines of a section's table, and of the tables of the sections inside it."""
    descriptions = describe_keys(section)
    lines = [f"\n## {title}\n", *([f"{about}.\n"] if about else [])]
    lines += ["| key | default | meaning |", "|---|---|---|"]
    inner: list[str] = []
    for name, field in section.model_fields.items():
        below = section_of(field)
        key = f"{prefix}{name}"
        lines.append(f"| `{key}` | {default_of(field)} | {descriptions[name].replace('|', chr(92) + '|')} |")
        if below is not None:
            several = "tuple" in str(field.annotation)
            inner += write_table(f"`{key}`", below, f"{key}[]." if several else f"{key}.")
    return lines + inner


def write_page() -> str:
    """Return the whole page."""
    lines = [HEADER.rstrip("\n"), *write_table("The recipe", Recipe)]
    lines += write_table("The sweep file", SweepConfig)
    for name, entry in sorted(MODELS.items()):
        lines += write_table(f"`model` with `name: {name}`", entry.options, "model.", entry.description)
    for name, dataset in sorted({**_DATASETS, **IMAGE_DATASETS}.items()):
        title = f"`data.options` with `dataset: {name}`"
        lines += write_table(title, dataset.Options, "data.options.", dataset.description)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(write_page(), encoding="utf-8")
