"""Is a recipe's data set fit for training and for judging a model? Every file is read, all faults are named.

Looked for are splits that are missing or empty, files that cannot be read to their last block, masks that do
not fit or hold values without a class, places and near-copies that are in two splits (see `check_likeness`
for what counts as a near-copy and what is not found), classes that a split lacks, and splits with values far
from those of training.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from qhybrid.config import DataConfig
from qhybrid.data.check_findings import DataCheck, Problem, SplitFindings, told_once
from qhybrid.data.check_likeness import ALIKE, ALIKE_SMALL, SMALL, near_copies
from qhybrid.data.check_scenes import Progress
from qhybrid.data.check_sheet import draw_contact_sheet
from qhybrid.data.kinds import data_kind
from qhybrid.data.scenes import SPLITS
from qhybrid.errors import DataError
from qhybrid.workspace import write_text

__all__ = [
    "DataCheck",
    "Problem",
    "check_data",
    "draw_contact_sheet",
    "stop_at_problems",
    "told_once",
    "write_check",
]

FAR_MEAN, FAR_SCALE = 1.0, 2.0
"""A split is worth a look when a band's mean is this many of training's standard deviations away from that of
training, or its standard deviation is this many times larger or smaller."""
OTHER_MEAN, OTHER_SCALE = 4.0, 5.0
"""Beyond these its values are of another kind: another number range, other bands, another sensor."""
_SHOWN = 10


def check_data(
    config: DataConfig,
    data_root: Path,
    splits: Sequence[str] = SPLITS,
    *,
    quick: bool = False,
    progress: Progress | None = None,
) -> DataCheck:
    """Check the data set of a recipe, of scenes or of whole images.

    Args:
        config: The recipe's section `data`.
        data_root: Folder that `config.root` is relative to.
        splits: Which splits.
        quick: What training does before its first step: every file is opened and decoded at its end, masks
            are read, places in two splits are found; statistics and near-copies are left out.
        progress: Called with the amount done and the amount in all.

    Returns:
        Counts, statistics, and all problems that were found.

    Raises:
        ConfigError: If the data set or one of its options is unknown or wrong.
    """
    kind = data_kind(config.dataset)
    check = kind.check(kind.open(config, data_root), config, splits, quick, progress)
    compare_labels(check, absent_classes=not quick)
    if not quick:
        _note_constant_bands(check)
        _compare_values(check)
        if check.unit == "scenes":  # whole images are compared in full, with their data set's own pictures
            _find_near_copies(check)
    return check


def compare_labels(check: DataCheck, *, absent_classes: bool = True) -> None:
    """Record splits without any label, and on request the classes that a split lacks."""
    for split, found in check.splits.items():
        if found.per_class is None or not found.count:
            continue
        if not found.per_class.any():
            check.add("labels", [split], no_labels(split, found.count, check.unit))
        elif absent_classes:
            absent = [name for name, count in zip(check.class_names, found.per_class) if not count]
            if absent:
                what = "cannot be learned" if split == "train" else "cannot be judged"
                check.add(
                    "class",
                    [split],
                    f"Split {split} should have all classes, but has no {check.counted[:-1]} of "
                    f"{', '.join(absent)}, "
                    f"which {what} by it. Fix: split otherwise, or leave the class out.",
                    severe=split
                    == "train",  # small test sets often lack a rare class; metrics then leave it out
                )


def no_labels(split: str, count: int, unit: str) -> str:
    """Return what to say of a split without any label."""
    return (
        f"Split {split} must have labels, but no pixel of its {count} {unit} has a class: nothing could be "
        "learned or judged by it. Fix: check `data.classes`, `data.ignore_values` and the masks."
    )


def _note_constant_bands(check: DataCheck) -> None:
    """Record bands of training that have one value everywhere: a mask among the data, or an empty band."""
    known = check.splits.get("train")
    if known is None or known.moments is None or not known.moments.count:
        return
    mean, std = known.moments.mean, known.moments.std
    even = np.flatnonzero(std <= 1e-12 * np.abs(mean))
    if len(even):
        places = ", ".join(f"{place + 1} ({mean[place]:.6g})" for place in even[:_SHOWN])
        check.add(
            "statistics",
            ["train"],
            "Bands of training should differ from pixel to pixel, but at position(s) "
            f"{places} all pixels are alike: a model sees 0 there, whatever scenes have. Fix: see whether it "
            "is a mask or an empty band; if so, leave it out (`data.bands`).",
            severe=False,
        )


def _compare_values(check: DataCheck) -> None:
    """Record splits whose values are far from those of training."""
    known = check.splits.get("train")
    if known is None or known.moments is None or not known.moments.count:
        return
    for split, found in check.splits.items():
        if split == "train" or found.moments is None or not found.moments.count:
            continue
        if len(found.moments.mean) != len(known.moments.mean):
            check.add(
                "statistics",
                [split],
                f"Split {split} must have the bands of training, but has {len(found.moments.mean)} "
                "instead of "
                f"{len(known.moments.mean)}. Fix: set `data.bands`.",
            )
            continue
        _compare_bands(split, found, known, check)


def _compare_bands(split: str, found: SplitFindings, known: SplitFindings, check: DataCheck) -> None:
    assert found.moments is not None
    assert known.moments is not None
    least = 1e-12 + 1e-9 * np.abs(known.moments.mean)  # a band may be constant
    scale = np.maximum(known.moments.std, least)
    away = np.abs(found.moments.mean - known.moments.mean) / scale
    ratio = np.maximum(found.moments.std, least) / scale
    ratio = np.maximum(ratio, 1 / ratio)
    if away.max() <= FAR_MEAN and ratio.max() <= FAR_SCALE:
        return
    band = int(np.argmax(np.maximum(away / FAR_MEAN, ratio / FAR_SCALE)))
    severe = bool(away.max() > OTHER_MEAN or ratio.max() > OTHER_SCALE)
    check.add(
        "statistics",
        [split],
        f"Values of split {split} should be like those of training, but the band at position "
        f"{band + 1} has mean "
        f"{found.moments.mean[band]:.4g} and standard deviation {found.moments.std[band]:.4g}, in training "
        f"{known.moments.mean[band]:.4g} and {known.moments.std[band]:.4g}. Fix: "
        + (
            "give the files one number range, order of bands and scale."
            if severe
            else "see whether the split shows another kind of place, season or sensor."
        ),
        severe=severe,
    )


def _find_near_copies(check: DataCheck) -> None:
    """Record near-copies in two splits, but for scenes that are known to show the same ground."""
    known = check.overlapping | {(second, first) for first, second in check.overlapping}
    for first, second in combinations(check.splits, 2):
        one, other = check.splits[first], check.splits[second]
        alike = ALIKE_SMALL if min(one.smallest, other.smallest) < SMALL else ALIKE
        pairs = [
            (one.names[i], other.names[j])
            for i, j in near_copies(one.copies, other.copies, alike)
            if (one.names[i], other.names[j]) not in known
        ]
        if pairs:
            shown = ", ".join(f"{a} and {b}" for a, b in pairs[:3])
            check.add(
                "near-copy",
                [first, second],
                f"{len(pairs)} pair(s) of {check.unit} in {first} and {second} look the same at low "
                "resolution "
                f"(correlation above {alike:g}): {shown}{', ...' if len(pairs) > 3 else ''}. Fix: "
                "look at them; if "
                "they are copies, keep them in one split.",
            )


def stop_at_problems(problems: Sequence[Problem]) -> None:
    """Raise an error that names the given problems, the first ones only if they are many.

    Raises:
        DataError: If there is one.
    """
    told = told_once(problems)
    lines = [problem.message for problem in told[:_SHOWN]]
    if len(told) > _SHOWN:
        lines.append(f"... and {len(told) - _SHOWN} more (`qhybrid data check` names all).")
    if len(told) == 1:
        raise DataError(lines[0])
    if problems:
        raise DataError("\n".join([f"{len(problems)} problems with the data:", *lines]))


def write_check(check: DataCheck, folder: Path) -> tuple[Path, Path | None]:
    """Write check.json, and contact_sheet.png if there is something to show, into a folder.

    Returns:
        Both files; None for the sheet if there was nothing to show.

    Raises:
        WorkspaceError: If the folder cannot be written.
    """
    text = json.dumps(check.to_dict(), indent=2, ensure_ascii=False) + "\n"
    report = write_text(folder / "check.json", text)
    sheet = folder / "contact_sheet.png"
    return report, draw_contact_sheet(check, sheet) if any(
        f.examples for f in check.splits.values()
    ) else None
