"""Pixels on the page: sample predictions beside the truth, and PNG files of a run, as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.colors import to_rgb
from matplotlib.image import imread, imsave
from numpy.typing import NDArray

from qhybrid.errors import DataError
from qhybrid.experiments.sweeps.arrays import unpack
from qhybrid.experiments.sweeps.profiles import ALL_TO_ALL
from qhybrid.metrics import find_metric
from qhybrid.mitigations import NONE
from qhybrid.report.labels import noise_label, shots_label
from qhybrid.report.parts import Figure
from qhybrid.report.sources import SweepSource
from qhybrid.training.pictures import LINE_COLORS
from qhybrid.training.showing import NO_DATA_COLOR

IGNORED = 255
MOST_WORDS = 10
MOST_WRONG = 6
MOST_PICTURES = 24
FORMS = ((1364, 80), (1100, 75), (900, 70), (700, 60), (520, 50), (400, 40))
"""Widths in pixels and qualities of pictures, the best first."""


@dataclass(frozen=True)
class Panel:
    """One picture, or one word where a class was predicted.

    Attributes:
        image: Data URI of a PNG; empty for a word.
        text: The word; for pictures what they show.
        wrong: Whether the prediction is wrong (of a picture: the share of wrong pixels is in `text`).
    """

    image: str
    text: str
    wrong: bool = False


@dataclass(frozen=True)
class SampleRow:
    """One sample: picture, truth, and a prediction under each of the chosen conditions."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class SampleTable:
    """Samples of one run.

    Attributes:
        run: Its name.
        heads: Titles of the columns.
        rows: The samples.
        legend: Class names and colours of label maps.
        note: How the samples were chosen.
    """

    run: str
    heads: tuple[str, ...]
    rows: tuple[SampleRow, ...]
    legend: tuple[tuple[str, str], ...]
    note: str = ""


def chosen_cells(sweep: SweepSource, weights: str) -> list[tuple[str, str]]:
    """Return titles and keys of up to three cells of a run: without noise, under noise, as a device runs it.

    Of several that fit, the noisy one is the worst of the headline metric, with as many shots as there are.
    """
    cells = sweep.cells[(sweep.cells["weights"] == weights)]
    cells = cells[cells["metric"] == cells["metric"].iloc[0]].copy()
    cells["budget"] = cells["shots"].astype("float64").fillna(np.inf)
    cells["plain"] = (cells["mitigation"] != NONE).astype(int) + (cells["engine"] != "exact").astype(int)
    upwards = find_metric(str(cells["metric"].iloc[0])).larger_is_better
    noisy, device = cells["profile_hash"] != "", cells["mapping"] != ALL_TO_ALL
    found = []
    for title, kind, most in (
        ("without noise", ~noisy & ~device, True),
        ("under noise", noisy & ~device, False),
        ("on a device", device, False),
    ):
        rows = cells[kind]
        if len(rows):
            rows = rows[rows["plain"] == rows["plain"].min()]
            finite = rows[np.isfinite(rows["budget"])]
            rows = rows if most or finite.empty else finite[finite["budget"] == finite["budget"].max()]
            rows = rows[rows["budget"] == rows["budget"].max()]
            row = rows.sort_values(["value", "key"], ascending=[upwards, True]).iloc[0]
            found.append((f"{title}: {_conditions(row)}", str(row["key"])))
    return found


def _conditions(row: pd.Series[Any]) -> str:
    shots = shots_label(row["shots"])
    return f"{noise_label(row)}, {shots} shots"


def sample_tables(sweep: SweepSource) -> list[SampleTable]:
    """Return the samples of every run of a sweep, one run for each name."""
    found = []
    seen = set()
    for weights, kept in sweep.runs.items():
        chosen = [(title, sweep.cell(key)) for title, key in chosen_cells(sweep, weights)]
        # Cells of an earlier version may show other parts of the scenes.
        places = [sample["place"] for sample in kept["samples"] if "place" in sample]
        results = [
            (title, cell) for title, cell in chosen if cell is not None and cell.get("places", []) == places
        ]
        if kept["name"] not in seen and results and kept["samples"]:
            seen.add(kept["name"])
            found.append(_table(kept, results))
    return found


def _table(kept: dict[str, Any], results: Sequence[tuple[str, dict[str, Any]]]) -> SampleTable:
    colors = kept["colors"] or [LINE_COLORS[i % len(LINE_COLORS)] for i in range(len(kept["class_names"]))]
    rows = []
    truths = [unpack(sample["truth"]) for sample in kept["samples"]]
    maps = truths[0].ndim == 2
    predictions = [[unpack(cell["shown"][index]) for _, cell in results] for index in range(len(truths))]
    for index in range(len(truths)) if maps else _telling(truths, predictions):
        sample, truth = kept["samples"][index], truths[index]
        panels = [Panel(webp(unpack(sample["picture"])), sample["title"]), _panel(truth, None, kept, colors)]
        panels += [_panel(found, truth, kept, colors) for found in predictions[index]]
        rows.append(SampleRow(sample["title"], tuple(panels)))
    heads = ("image", "truth", *(title for title, _ in results))
    legend = tuple(zip(kept["class_names"], colors, strict=False)) if maps else ()
    note = f"of {len(truths)} images of the test set the most often wrong ones, then others"
    return SampleTable(kept["name"], heads, tuple(rows), legend, "" if maps else note)


def _telling(truths: Sequence[NDArray[Any]], predictions: Sequence[Sequence[NDArray[Any]]]) -> list[int]:
    """Return indices of images: those on which conditions differ or fail first, then evenly spread ones."""
    wrong = [sum(int(found) != int(truth) for found in row) for truth, row in zip(truths, predictions)]
    differ = [len({int(found) for found in row}) > 1 for row in predictions]
    order = sorted(range(len(truths)), key=lambda index: (not differ[index], -wrong[index]))
    failed = [index for index in order if wrong[index]][:MOST_WRONG]
    right = [index for index in range(len(truths)) if not wrong[index]]
    others = right[:: max(1, len(right) // (MOST_WORDS - len(failed)))]
    return (failed + others)[:MOST_WORDS]


def _panel(
    found: NDArray[Any], truth: NDArray[Any] | None, kept: dict[str, Any], colors: Sequence[str]
) -> Panel:
    if found.ndim == 0:
        return Panel("", kept["class_names"][int(found)], truth is not None and int(found) != int(truth))
    text = "truth"
    if truth is not None:
        counted = (truth != IGNORED) & (found != IGNORED)
        right = float((found == truth)[counted].mean()) if counted.any() else float("nan")
        text = f"{100 * right:.1f} % of pixels right"
    return Panel(png(paint(found, colors)), text)


def paint(labels: NDArray[Any], colors: Sequence[str]) -> NDArray[np.uint8]:
    """Return colours of a label map, uint8 of shape (h, w, 3); ignored pixels are grey."""
    palette = np.array([to_rgb(color) for color in (*colors, NO_DATA_COLOR)])
    index = np.where(labels < len(colors), labels, len(colors))
    return np.asarray((palette[index] * 255).round(), dtype=np.uint8)


def png(pixels: NDArray[Any]) -> str:
    """Return pixels of shape (h, w, 3) as the data URI of a PNG file, for label maps."""
    file = io.BytesIO()
    imsave(file, np.ascontiguousarray(pixels), format="png")
    return _uri(file.getvalue(), "png")


def webp(pixels: NDArray[Any], quality: int = 80) -> str:
    """Return colours, uint8 of shape (h, w, 3), as the data URI of a WebP file, for images."""
    file = io.BytesIO()
    options = {"quality": quality, "method": 4}
    imsave(file, np.ascontiguousarray(pixels), format="webp", pil_kwargs=options)
    return _uri(file.getvalue(), "webp")


class Pictures:
    """Turns PNG files of run folders into pictures of the page, as sharp as its size allows.

    Args:
        largest: Bytes of all pictures together.
        number: How many there will be; more than `MOST_PICTURES` are left out.
    """

    def __init__(self, largest: int, number: int) -> None:
        self._each = largest // max(1, min(number, MOST_PICTURES))
        self._left = MOST_PICTURES if largest else 0
        self.left_out = 0

    def figure(self, file: Path, caption: str) -> list[Figure]:
        """Return a file as a figure; nothing if there is none, or too many were shown already."""
        if not file.is_file():
            return []
        if not self._left:
            self.left_out += 1
            return []
        self._left -= 1
        return [Figure(caption, image=scaled_picture(file, self._each), plate=True)]


def scaled_picture(file: Path, largest: int) -> str:
    """Return a PNG file as the data URI of a WebP file of a limited size.

    Args:
        file: The file.
        largest: Characters at most, unless the smallest form has more.

    Raises:
        DataError: If it is damaged.
    """
    try:
        pixels = imread(file, format="png")
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{file}: must be a PNG picture, but cannot be read: {error}.") from error
    found = ""
    for width, quality in FORMS:
        found = webp(_narrowed(pixels[..., :3], width), quality)
        if len(found) <= largest:
            break
    return found


def _narrowed(pixels: NDArray[Any], width: int) -> NDArray[np.uint8]:
    """Return colours in [0, 1] as uint8, scaled down to a width."""
    if pixels.shape[1] > width:
        size = max(1, round(pixels.shape[0] * width / pixels.shape[1])), width
        planes = torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, 0)))[None]
        smaller = torch.nn.functional.interpolate(planes, size, mode="bilinear", antialias=True)
        pixels = np.moveaxis(smaller[0].numpy(), 0, -1)
    return np.asarray((np.clip(pixels, 0, 1) * 255).round(), dtype=np.uint8)


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
