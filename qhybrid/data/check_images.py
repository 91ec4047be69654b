"""Look at the images of a data set of whole images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qhybrid.data.check_findings import DataCheck, Example, Moments, SplitFindings
from qhybrid.data.check_likeness import small_copy
from qhybrid.data.check_scenes import EXAMPLE_SIDE, EXAMPLES, Progress
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.images.dataset import ImageArrays, ImageDataset
from qhybrid.errors import DataError

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
    ids: dict[str, frozenset[str]] = {}
    for done, split in enumerate(wanted, start=1):
        check.splits[split] = SplitFindings()
        try:
            arrays = (loaded or {}).get(split) or dataset.load(split)
        except DataError as error:
            check.add("file", [split], error)
        else:
            ids[split] = frozenset(arrays.ids)
            _count(arrays, check.splits[split], len(names))
            if not quick:
                _read(arrays, check.splits[split], check)
        if progress is not None:
            progress(done, len(wanted))
    _find_shared(ids, check)
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
    found.copies = [small_copy(image) for image in images]
    step = max(1, -(-max(images.shape[-2:]) // EXAMPLE_SIDE))
    for index in dict.fromkeys(np.linspace(0, len(arrays) - 1, EXAMPLES).astype(int).tolist()):
        image = images[index, :3, ::step, ::step].astype(np.float32)
        target = arrays.targets[index].numpy()
        if target.ndim == 0:
            found.examples.append(Example(arrays.ids[index], image, label=check.class_names[int(target)]))
        else:
            labels = target[::step, ::step].astype(np.uint8)
            found.examples.append(Example(arrays.ids[index], image, labels))


def _find_shared(ids: dict[str, frozenset[str]], check: DataCheck) -> None:
    splits = list(ids)
    for index, first in enumerate(splits):
        for second in splits[index + 1 :]:
            shared = sorted(ids[first] & ids[second])
            if shared:
                check.overlapping |= {(name, name) for name in shared}
                check.add(
                    "leak",
                    [first, second],
                    f"{len(shared)} image(s) are in {first} and in {second}, for example {shared[0]}: "
                    "results look "
                    "better than they are. Fix: change `data.options` so that the splits share no image.",
                )
