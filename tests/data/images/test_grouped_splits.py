"""Splits that cut no group apart: near-duplicates of pictures, and neighbouring sections of a stack."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_folders import write_picture

from qhybrid.config import DataConfig, load_recipe
from qhybrid.data.check import check_data
from qhybrid.data.images.image_datasets import open_image_dataset
from qhybrid.data.images.partition import grouped_parts, stratified_parts
from qhybrid.errors import ConfigError, DataError

RECIPES = Path(__file__).resolve().parents[3] / "runs"


def opened(name, folder, **options):
    config = DataConfig(dataset=name, root=folder.name, options=options)
    return open_image_dataset(config, folder.parent)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(60, 120), st.integers(1, 5))
def test_no_group_is_cut_and_every_image_is_somewhere(seed, count, largest):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    groups = np.repeat(np.arange(count), rng.integers(1, largest + 1, count))[:count]
    sizes = [count - count // 4 - count // 5, count // 4, count // 5]
    parts = grouped_parts(labels, groups, sizes, seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    for one, other in combinations(parts, 2):
        assert not set(groups[one]) & set(groups[other])
    assert [part.tolist() for part in parts] == [
        part.tolist() for part in grouped_parts(labels, groups, sizes, seed)
    ]


def test_without_groups_sizes_and_shares_are_exact():
    labels = np.repeat([0, 1], [70, 30])
    for seed in range(5):
        parts = grouped_parts(labels, np.arange(100), [64, 20, 16], seed)
        expected = stratified_parts(labels, [64, 20, 16], seed)
        for one, other in zip(parts, expected, strict=True):
            assert np.bincount(labels[one]).tolist() == np.bincount(labels[other]).tolist()


def test_large_groups_are_drawn_into_all_parts():
    """Were they always in training, the test would be on images of another kind."""
    groups = np.concatenate([np.zeros(10), 1 + np.arange(90)])
    where = []
    for seed in range(300):
        parts = grouped_parts(np.zeros(100), groups, [50, 30, 20], seed)
        where += [index for index, part in enumerate(parts) if 0 in part]
    shares = np.bincount(where, minlength=3) / 300
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=0.09)


def test_groups_that_leave_a_part_empty_are_refused():
    with pytest.raises(DataError, match="up to 12 of 12"):
        grouped_parts(np.zeros(12), np.zeros(12), [8, 2, 2], 0)


@pytest.fixture
def copies_folder(tmp_path):
    """Four diagnoses with 12 pictures; of each three are one picture: as it is, mirrored, brighter."""
    rng = np.random.default_rng(3)
    for name in ("glioma", "meningioma", "notumor", "pituitary"):
        pictures = rng.integers(0, 180, (12, 20, 20))
        pictures[4], pictures[9] = pictures[0][:, ::-1], pictures[0] * 0.5 + 60
        for index, picture in enumerate(pictures):
            write_picture(tmp_path / "mri" / name / f"{index:02d}.png", picture)
    return tmp_path / "mri"


@pytest.mark.parametrize("seed", range(4))
def test_near_duplicates_are_in_one_split_whatever_the_size(copies_folder, seed):
    found = []
    for size in (16, 20):
        dataset = opened("brain_mri", copies_folder, size=size, seed=seed, group_near_duplicates=0.97)
        parts = {split: dataset.load(split) for split in dataset.splits}
        split_of = {name: split for split, arrays in parts.items() for name in arrays.ids}
        assert len(split_of) == 36  # of three diagnoses
        for name in ("glioma", "meningioma", "pituitary"):
            assert len({split_of[f"{name}/{index}"] for index in ("00", "04", "09")}) == 1
        found.append(split_of)
    assert found[0] == found[1]
    units = dataset.sampling_units(parts["train"].ids)
    copies = sum(split_of[f"{name}/00"] == "train" for name in ("glioma", "meningioma", "pituitary"))
    assert len(set(units.of)) == len(parts["train"]) - 2 * copies
    assert units.kind == "group of near-duplicates"


def test_without_the_key_splits_stay_as_they_were(copies_folder):
    dataset = opened("brain_mri", copies_folder, size=16)
    names = [f"{name}/{index:02d}" for name in ("meningioma", "pituitary", "glioma") for index in range(12)]
    labels = [name.split("/")[0] for name in names]
    expected = stratified_parts(labels, dataset.options.sizes(36), 0, "brain_mri", "malignant")
    for split, part in zip(("train", "val", "test"), expected):
        assert dataset.load(split).ids == tuple(names[index] for index in part)
    assert dataset.sampling_units(names).kind == "image"


def sections(dataset, split):
    return sorted({int(name.split("-")[1]) for name in dataset.load(split).ids})


@pytest.mark.parametrize(("block", "gap"), [(6, 0), (6, 1), (3, 1), (1, 0), (2, 0)])
def test_folds_of_blocks_cut_no_block_apart_and_keep_the_gap(isbi_folder, block, gap):
    tested = []
    for fold in range(1, 6):
        dataset = opened("isbi2012", isbi_folder, size=16, fold=fold, block=block, gap=gap)
        parts = {split: sections(dataset, split) for split in dataset.splits}
        assert all(parts.values())
        tested += parts["test"]
        blocks = {split: {one // block for one in part} for split, part in parts.items()}
        for one, other in combinations(parts, 2):
            assert not blocks[one] & blocks[other]
            nearest = min(abs(first - second) for first in parts[one] for second in parts[other])
            assert nearest > gap
            beside = dataset.adjacent(dataset.load(one).ids, dataset.load(other).ids)
            assert bool(beside) == (nearest == 1)
        if gap == 0:
            assert sum(map(len, parts.values())) == 30
    assert sorted(tested) == list(range(30))


def test_tiles_know_their_block(isbi_folder):
    dataset = opened("isbi2012", isbi_folder, size=16, tile=8)
    ids = dataset.load("test").ids
    units = dataset.sampling_units(ids)
    assert (units.kind, units.within) == ("block of 3 sections", "within this stack")
    assert units.of == tuple(str(int(name.split("-")[1]) // 3) for name in ids)
    with pytest.raises(ConfigError, match="`gap` is for blocks"):
        opened("isbi2012", isbi_folder, gap=1)


def test_the_check_says_that_neighbours_are_in_two_splits(isbi_folder):
    def neighbours(**options):
        config = DataConfig(dataset="isbi2012", root="isbi2012", options={"size": 16, **options})
        root = isbi_folder.parent / "root"
        root.mkdir(exist_ok=True)
        if not (root / "isbi2012").exists():
            (root / "isbi2012").symlink_to(isbi_folder)
        return [one for one in check_data(config, root, quick=True).problems if one.kind == "neighbours"]

    found = neighbours()
    assert ("train", "test") in [one.splits for one in found]
    assert all(not one.severe for one in found)
    assert "6 of 6 images of test lie next to one of train" in next(
        one.message for one in found if one.splits == ("train", "test")
    )
    assert neighbours(block=6, gap=1) == []


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        pytest.param("mri_any_tumour", (30, 205), marks=pytest.mark.slow),
        pytest.param("mri_malignant", (4, 144), marks=pytest.mark.slow),
    ],
)
def test_near_duplicates_of_the_published_mri_splits(shared_data, recipe, expected):
    config = load_recipe(RECIPES / f"{recipe}.yaml").data
    found = check_data(config, shared_data)
    pairs = [one for one in found.near_duplicates if one["splits"] == ["train", "test"] and not one["turned"]]
    assert (len({one["second"] for one in pairs}), found.splits["test"].count) == expected
    assert found.ok
    options = {**config.options, "group_near_duplicates": 0.98}
    assert not check_data(config.model_copy(update={"options": options}), shared_data).near_duplicates
