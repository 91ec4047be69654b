"""Which image is in which split: seeded, stratified, disjoint, the same on every machine; and its keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from qhybrid.config import StrictModel
from qhybrid.errors import DataError
from qhybrid.seeding import numpy_generator

Indices = NDArray[np.int64]


def apportion(total: int, shares: ArrayLike, limits: ArrayLike | None = None) -> Indices:
    """Divide a whole number by shares with the method of largest remainders.

    Args:
        total: What is divided.
        shares: Weights of the parts, of any scale, shape (P,).
        limits: Largest size of each part, shape (P,).

    Returns:
        Sizes of the parts, shape (P,), that sum to `total`.

    Raises:
        DataError: If the limits sum to less than `total`.
    """
    weights = np.asarray(shares, dtype=np.float64)
    most: Indices = np.asarray(np.full(len(weights), total) if limits is None else limits, dtype=np.int64)
    if most.sum() < total:
        raise DataError(f"{total} are to be divided, but there is room for {most.sum()} only.")
    exact = total * weights / weights.sum()
    sizes: Indices = np.minimum(np.floor(exact + 1e-9).astype(np.int64), most)
    while sizes.sum() < total:
        missing = np.where(sizes < most, exact - sizes, -np.inf)
        sizes[int(missing.argmax())] += 1
    return sizes


def stratified_parts(
    labels: ArrayLike, sizes: Sequence[int], *seed: int | str, balanced: bool = False
) -> list[Indices]:
    """Draw disjoint parts in which every class has the same share.

    Args:
        labels: Class of each image, shape (N,).
        sizes: Number of images in each part.
        *seed: What decides the draw, see `qhybrid.seeding.derive_seed`.
        balanced: Give all classes equal shares (as far as there are images), instead of the shares that
            they have in all.

    Returns:
        Ascending indices of each part.

    Raises:
        DataError: If the sizes sum to more than there are images.
    """
    classes, inverse = np.unique(np.asarray(labels), return_inverse=True)
    if sum(sizes) > len(inverse):
        raise DataError(
            f"Splits of {', '.join(map(str, sizes))} images need {sum(sizes)}, but there are {len(inverse)}."
        )
    shares = np.ones(len(classes)) if balanced else np.bincount(inverse, minlength=len(classes))
    left = [
        numpy_generator(*seed, "class", int(index)).permutation(np.flatnonzero(inverse == index))
        for index in range(len(classes))
    ]
    parts = []
    for size in sizes:
        counts = apportion(size, shares, [len(members) for members in left])
        chosen = [members[:count] for members, count in zip(left, counts)]
        left = [members[count:] for members, count in zip(left, counts)]
        parts.append(np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64))
    return parts


def grouped_parts(
    labels: ArrayLike, groups: ArrayLike, sizes: Sequence[int], *seed: int | str
) -> list[Indices]:
    """Draw disjoint parts that cut no group apart, in which every class has nearly the same share.

    Groups come from large to small, equal ones in random order. Each goes to a part drawn by how many images
    its classes still need there, among the parts where all of it fits; so large groups are in no part more
    often than its size says. Sizes are met exactly where single images are left to fill the parts up.

    Args:
        labels: Class of each image, shape (N,).
        groups: Group of each image, shape (N,).
        sizes: Number of images in each part; their sum is N.
        *seed: What decides the draw, see `qhybrid.seeding.derive_seed`.

    Returns:
        Ascending indices of each part.

    Raises:
        DataError: If the sizes do not sum to the number of images, or a part that has a size stays empty.
    """
    classes, inverse = np.unique(np.asarray(labels), return_inverse=True)
    if sum(sizes) != len(inverse):
        raise DataError(f"Splits of {', '.join(map(str, sizes))} images must hold all {len(inverse)}.")
    _, members = np.unique(np.asarray(groups), return_inverse=True)
    content = np.zeros((members.max(initial=-1) + 1, len(classes)), dtype=np.int64)
    np.add.at(content, (members, inverse), 1)
    needed = np.zeros((len(sizes), len(classes)), dtype=np.int64)
    shares = left = np.bincount(inverse, minlength=len(classes))
    for part, size in enumerate(sizes):
        needed[part] = apportion(size, shares, left)
        left = left - needed[part]
    rng = numpy_generator(*seed, "groups")
    order = rng.permutation(len(content))
    chosen = np.zeros(len(content), dtype=np.int64)
    for group in order[np.argsort(-content[order].sum(axis=1), kind="stable")]:
        wanted = (needed * (content[group] > 0)).clip(min=0).sum(axis=1).astype(np.float64)
        fits = wanted * (needed >= content[group]).all(axis=1)
        weights = fits if fits.any() else wanted if wanted.any() else needed.clip(min=0).sum(axis=1) + 1e-9
        chosen[group] = rng.choice(len(sizes), p=weights / weights.sum())
        needed[chosen[group]] -= content[group]
    parts = [np.flatnonzero(chosen[members] == part) for part in range(len(sizes))]
    empty = [part for part, size in enumerate(sizes) if size and not len(parts[part])]
    if empty:
        largest = int(content.sum(axis=1).max())
        raise DataError(
            f"A part of {sizes[empty[0]]} image(s) must hold whole groups of near-duplicates, but these are "
            f"too large for it (up to {largest} of {len(inverse)} images). Fix: give it a larger share, or "
            "raise `data.options.group_near_duplicates`."
        )
    return parts


def fold_parts(count: int, folds: int, *seed: int | str) -> list[Indices]:
    """Deal `count` images into folds of equal size (but for one), at random.

    Returns:
        Ascending indices of each fold.
    """
    order = numpy_generator(*seed, "folds").permutation(count)
    return [np.sort(part) for part in np.array_split(order, folds)]


def hold_out(indices: ArrayLike, share: float, *seed: int | str) -> tuple[Indices, Indices]:
    """Take a share of the images away, at random; at least one if the share is not 0.

    Returns:
        Ascending indices of what is left, and of what is taken.
    """
    given = np.asarray(indices, dtype=np.int64)
    taken = 0 if share == 0 else max(1, round(share * len(given)))
    order = numpy_generator(*seed, "hold out").permutation(given)
    return np.sort(order[taken:]), np.sort(order[:taken])


class FractionOptions(StrictModel):
    """Keys of data sets that are split by shares.

    Attributes:
        validation: Share of the images for validation; 0 is none.
        test: Share of the images for test.
        seed: Decides which image is in which split.
        group_near_duplicates: Correlation above which two images, the one perhaps mirrored or rotated, are
            near-duplicates; these are in one split then, directly or through others. 0.98 is a good choice.
            Absent: they are not looked for, and may be in two splits.
    """

    validation: float = Field(0.2, ge=0, lt=1)
    test: float = Field(0.16, gt=0, lt=1)
    seed: int = 0
    group_near_duplicates: float | None = Field(None, gt=0, lt=1)

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test must leave images for training")
        return self

    def parts(
        self, labels: ArrayLike, groups: Callable[[float], Sequence[int]], *name: int | str
    ) -> list[Indices]:
        """Return the images of train, validation and test.

        Args:
            labels: What has the same share in all splits, shape (N,).
            groups: Called with the correlation if near-duplicates are kept together; the group of each image.
            *name: Of the data set, beside the seed.
        """
        sizes = self.sizes(len(np.asarray(labels)))
        if self.group_near_duplicates is None:
            return stratified_parts(labels, sizes, self.seed, *name)
        return grouped_parts(labels, groups(self.group_near_duplicates), sizes, self.seed, *name)

    def sizes(self, count: int) -> list[int]:
        """Return how many of `count` images go to train, validation and test."""
        shares = [1 - self.validation - self.test, self.validation, self.test]
        return [int(size) for size in apportion(count, shares)]


def check_digit_classes(classes: Sequence[int] | None) -> None:
    """Check a choice among ten classes.

    Raises:
        ValueError: If it is not at least two different numbers from 0 to 9.
    """
    if classes is None:
        return
    if len(classes) < 2 or len(set(classes)) < len(classes) or not set(classes) <= set(range(10)):
        raise ValueError("classes must be at least two different numbers from 0 to 9")
