"""What training needs to know of what is trained on; one builder for scenes, one for whole images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """Data, model and bookkeeping of one run.

    Attributes:
        data: Lightning data module; its `first_epoch` is set before training goes on, and `found` is what the
            check of the data has counted.
        module: Lightning module; its `model` is the network.
        monitor: Validation metric, larger is better, that decides on the best weights and on early stopping.
        validated: Whether there is a validation split.
        columns: Columns of metrics.csv.
        meta: Makes the content of meta.json from keywords `epoch`, `step` and `metrics`.
        draw_pictures: Draws the pictures of the finished run into its folder.
        save_interval: Seconds that may pass between two resume states; 0 keeps one of every epoch.
        refresh_rate: Steps between two updates of the progress bar.
    """

    data: Any
    module: Any
    monitor: str
    columns: tuple[str, ...]
    meta: Callable[..., Any]
    draw_pictures: Callable[[Path], None]
    validated: bool = True
    save_interval: float = 0.0
    refresh_rate: int = 1
