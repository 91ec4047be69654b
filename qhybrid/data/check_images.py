"""Look at the images of a data set of whole images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d

from qhybrid.data.check_findings import DataCheck, Example, Moments, SplitFindings
from qhybrid.data.check_scenes import EXAMPLE_SIDE, EXAMPLES, Progress
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.images.dataset import ImageArrays, ImageDataset
from qhybrid.data.near_duplicates import SMALL, Pair, grey, limit_for, near_duplicates
from qhybrid.errors import DataError

_LARGEST = 256
"""Images with longer sides are reduced before they are compared."""
_SHOWN = 5
# Okabe and Ito's colours, which colour-blind readers tell apart; more classes repeat them.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#000000")


def check_images(
    dataset: ImageDataset,
    splits: Sequence[str],
    *,
    loaded: Mapping[str, ImageArrays] | None = None,
    quick: bool = False,
    progress: Progress | None = None,
) -> DataCheck:
    """Load the images of some splits, and look for images that are in several of them.

    Args:
        dataset: The data set.
        splits: Which splits; those that it does not have are passed over.
        loaded: Splits that are loaded already.
        quick: Only load and count.
        progress: Called with (splits done, splits in all).
    """
    names = tuple(dataset.class_names)
    counted = "images" if dataset.task == "classification" else "pixels"
    check = DataCheck("images", names, counted, tuple(_COLORS[i % len(_COLORS)] for i in range(len(names))))
    wanted = [split for split in splits if split in dataset.splits]
    ids: dict[str, tuple[str, ...]] = {}
    for done, split in enumerate(wanted, start=1):
        check.splits[split] = SplitFindings()
        try:
            arrays = (loaded or {}).get(split) or dataset.load(split)
        except DataError as error:
            check.add("file", [split], error)
        else:
            ids[split] = arrays.ids
            _count(arrays, check.splits[split], len(names))
            if not quick:
                _read(arrays, check.splits[split], check)
        if progress is not None:
            progress(done, len(wanted))
    _find_shared(ids, check)
    _find_neighbours(dataset, ids, check)
    if not quick:
        find_near_duplicates(dataset, tuple(ids), check)
    return check


def _count(arrays: ImageArrays, found: SplitFindings, num_classes: int) -> None:
    height, width = arrays.images.shape[-2:]
    found.count = len(arrays)
    found.pixels = len(arrays) * height * width
    found.smallest = min(height, width)
    targets = arrays.targets.numpy().ravel()
    found.per_class = np.bincount(targets[targets != IGNORE_INDEX], minlength=num_classes)[:num_classes]


def _read(arrays: ImageArrays, found: SplitFindings, check: DataCheck) -> None:
    images = arrays.images.numpy()
    found.valid = found.pixels
    found.moments = Moments(images.shape[1])
    for image in images:
        found.moments.add(image.reshape(len(image), -1))
    found.names = list(arrays.ids)
    step = max(1, -(-max(images.shape[-2:]) // EXAMPLE_SIDE))
    for index in dict.fromkeys(np.linspace(0, len(arrays) - 1, EXAMPLES).astype(int).tolist()):
        image = images[index, :3, ::step, ::step].astype(np.float32)
        target = arrays.targets[index].numpy()
        if target.ndim == 0:
            found.examples.append(Example(arrays.ids[index], image, label=check.class_names[int(target)]))
        else:
            labels = target[::step, ::step].astype(np.uint8)
            found.examples.append(Example(arrays.ids[index], image, labels))


def _find_shared(ids: dict[str, tuple[str, ...]], check: DataCheck) -> None:
    splits = list(ids)
    for index, first in enumerate(splits):
        for second in splits[index + 1 :]:
            shared = sorted(set(ids[first]) & set(ids[second]))
            if shared:
                check.overlapping |= {(name, name) for name in shared}
                check.add(
                    "leak",
                    [first, second],
                    f"{len(shared)} image(s) are in {first} and in {second}, for example {shared[0]}: "
                    "results look "
                    "better than they are. Fix: change `data.options` so that the splits share no image.",
                )


def _find_neighbours(dataset: ImageDataset, ids: Mapping[str, tuple[str, ...]], check: DataCheck) -> None:
    for first, second in combinations(ids, 2):
        pairs = dataset.adjacent(ids[first], ids[second])
        if pairs:
            shown = ", ".join(f"{one} and {other}" for one, other in pairs[:3])
            check.add(
                "neighbours",
                [first, second],
                f"{len(pairs)} of {len(ids[second])} images of {second} lie next to one of {first} in one "
                f"object ({shown}{', ...' if len(pairs) > 3 else ''}): results say little about other "
                "objects. Fix: set `data.options.block` and `gap`, so that splits are blocks of neighbours.",
                severe=False,
            )


def find_near_duplicates(dataset: ImageDataset, splits: Sequence[str], check: DataCheck) -> None:
    """Record images that are near-duplicates of images in another split.

    Args:
        dataset: The data set.
        splits: Those of its splits that can be read.
        check: Where they are recorded: all pairs, and one problem for each two splits.
    """
    source = dataset.compared()
    loaded = {split: source.load(split) for split in splits}
    pictures = {split: _pictures(arrays) for split, arrays in loaded.items()}
    for first, second in combinations(splits, 2):
        one, other = pictures[first], pictures[second]
        if one.shape[1:] != other.shape[1:]:
            continue
        limit = limit_for(one.shape[1:])
        upright = near_duplicates(other, one, limit, turned=False)
        # Simple things of few pixels, such as digits, are often like another one's mirror image.
        pairs = near_duplicates(other, one, limit) if min(one.shape[1:]) >= SMALL else upright
        if pairs:
            names = loaded[first].ids, loaded[second].ids
            _record(check, (first, second), names, pairs, upright, limit, dataset)


def _pictures(arrays: ImageArrays) -> NDArray[np.float32]:
    step = -(-max(arrays.images.shape[-2:]) // _LARGEST)
    parts = torch.split(arrays.images, 64)
    return np.concatenate([grey((avg_pool2d(one, step) if step > 1 else one).numpy()) for one in parts])


def _record(
    check: DataCheck,
    splits: tuple[str, str],
    names: tuple[Sequence[str], Sequence[str]],
    pairs: Sequence[Pair],
    upright: Sequence[Pair],
    limit: float,
    dataset: ImageDataset,
) -> None:
    straight = {(pair.first, pair.second) for pair in upright}
    listed = sorted(pairs, key=lambda pair: -pair.correlation)
    for pair in listed:
        check.near_duplicates.append(
            {
                "splits": list(splits),
                "first": names[0][pair.second],
                "second": names[1][pair.first],
                "correlation": round(pair.correlation, 5),
                "turned": (pair.first, pair.second) not in straight,
            }
        )
    found, same = len({pair.first for pair in pairs}), len({pair.first for pair in upright})
    shown = ", ".join(
        f"{names[0][pair.second]} and {names[1][pair.first]} ({pair.correlation:.3f}"
        f"{'' if (pair.first, pair.second) in straight else ', turned'})"
        for pair in listed[:_SHOWN]
    )
    more = f", and {len(listed) - _SHOWN} more pairs in check.json" if len(listed) > _SHOWN else ""
    turned = f" ({found} with mirrored and rotated copies)" if found > same else ""
    fix = (
        f"`data.options.group_near_duplicates: {limit:g}` keeps them in one split."
        if hasattr(dataset.options, "group_near_duplicates")
        else "look at them; if they are copies, keep them in one split."
    )
    check.add(
        "near-copy",
        splits,
        f"{same} of {len(names[1])} images of {splits[1]} are near-duplicates of images of {splits[0]}"
        f"{turned}, correlation above {limit:g}: {shown}{more}. Results may look better than they are. "
        f"Fix: {fix}",
        severe=False,
    )
