"""Verdicts of a sweep that varies one factor of a recipe at a time, paired over seeds.

    python benchmarks/factors.py runs/sentinel2_factors/sweep --reference '{"model.encoding": "xyz"}'

Every setting is compared with the reference on the same seeds, by Holm over all; `--pair A B` adds others.
It prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from qhybrid.experiments.sweeps import read_cells
from qhybrid.metrics import find_metric
from qhybrid.metrics.verdict import judge_all


def values_of(cells: pd.DataFrame, metric: str) -> dict[str, pd.Series]:
    """Return the values of each setting of trained runs by seed.

    Args:
        cells: From `read_cells`.
        metric: The metric's key.
    """
    rows = cells[(cells["metric"] == metric) & (cells["engine"] == "trained")]
    return {
        str(settings): part.set_index("training_seed")["value"].sort_index()
        for settings, part in rows.groupby("settings", sort=False)
    }


def label(settings: str) -> str:
    """Return settings as text for a table: keys without their section, in a short form."""
    found: dict[str, Any] = json.loads(settings)
    return ", ".join(f"{key.rpartition('.')[2]} {_short(value)}" for key, value in found.items())


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={_short(one)}" for key, one in value.items() if key != "widths")
    return json.dumps(value) if isinstance(value, list) else str(value)


def table(values: dict[str, pd.Series], pairs: list[tuple[str, str]], metric: str, margin: float) -> str:
    """Return a table of means and of the differences between pairs of settings.

    Args:
        values: From `values_of`.
        pairs: (setting, what it is compared with); Holm's correction is over all of them.
        metric: The metric's key.
        margin: Differences up to it do not matter.
    """
    shown = find_metric(metric)
    scale, digits = int(shown.number(1)), max(3, shown.digits)
    differences = {f"{a} | {b}": (values[a] - values[b]).dropna().tolist() for a, b in pairs}
    verdicts = judge_all(differences, margin)
    head = f"| setting | {shown.label} of each seed | mean | compared with | difference | verdict |"
    lines = [head, "|---|---|---:|---|---:|---|"]
    for a, b in pairs:
        one, found = values[a], differences[f"{a} | {b}"]
        seeds = " ".join(f"{scale * value:.{digits}f}" for value in one)
        mean, difference = scale * one.mean(), scale * sum(found) / len(found)
        verdict = verdicts[f"{a} | {b}"].text(scale, digits, "")
        cells = [label(a), seeds, f"{mean:.{digits}f}", label(b), f"{difference:+.{digits}f}", verdict]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sweep", type=Path, help="sweep folder")
    parser.add_argument("--reference", required=True, help="settings that all others are compared with, JSON")
    parser.add_argument("--pair", nargs=2, action="append", default=[], metavar=("A", "B"))
    parser.add_argument("--metric", default="miou")
    parser.add_argument("--margin", type=float, default=0.005)
    asked = parser.parse_args()
    values = values_of(read_cells(asked.sweep), asked.metric)
    by_content = {json.dumps(json.loads(text), sort_keys=True): text for text in values}

    def known(text: str) -> str:
        return by_content[json.dumps(json.loads(text), sort_keys=True)]

    reference = known(asked.reference)
    pairs = [(text, reference) for text in values if text != reference]
    pairs += [(known(a), known(b)) for a, b in asked.pair]
    mean = find_metric(asked.metric).number(values[reference].mean())
    print(f"reference: {label(reference)}, mean {mean:.4f}\n")
    print(table(values, pairs, asked.metric, asked.margin))


if __name__ == "__main__":
    main()
