import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.warp import transform as transform_points

from qhybrid.config import ClassConfig, DataConfig
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.splits import (
    assign_splits,
    count_scenes,
    find_leaks,
    footprints,
    locations_of,
    overlap_groups,
)
from qhybrid.errors import ConfigError, DataError

FRACTIONS = {"train": 0.6, "val": 0.2, "test": 0.2}
boxes = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 8), st.integers(1, 8)).map(
        lambda box: (float(box[0]), float(box[1]), float(box[0] + box[2]), float(box[1] + box[3]))
    ),
    max_size=25,
)


def overlap(first, second):
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def naive_components(items):
    groups = list(range(len(items)))
    for _ in items:
        for i, first in enumerate(items):
            for j, second in enumerate(items):
                if overlap(first, second):
                    groups[i] = groups[j] = min(groups[i], groups[j])
    return groups


@settings(max_examples=60, deadline=None)
@given(boxes)
def test_groups_are_the_connected_components(items):
    assert overlap_groups(items) == naive_components(items)


@settings(max_examples=60, deadline=None)
@given(boxes, st.integers(0, 1000))
def test_no_two_splits_overlap(items, seed):
    groups = overlap_groups(items)
    sizes = {str(group): groups.count(group) for group in groups}
    if len(sizes) < 3:
        return
    chosen = assign_splits(sizes, FRACTIONS, seed)
    assert set(chosen.values()) == set(FRACTIONS)
    for i, first in enumerate(items):
        for j, second in enumerate(items):
            if chosen[str(groups[i])] != chosen[str(groups[j])]:
                assert not overlap(first, second)


def test_neighbours_that_touch_up_to_rounding_are_apart():
    assert overlap_groups([(0.0, 0.0, 1.0, 1.0), (1.0 - 1e-9, 0.0, 2.0, 1.0), (5.0, 5.0, 6.0, 6.0)]) == [
        0,
        1,
        2,
    ]


@settings(deadline=None)
@given(st.integers(20, 200), st.integers(0, 50))
def test_shares_are_met(count, seed):
    chosen = list(assign_splits({str(i): 1 for i in range(count)}, FRACTIONS, seed).values())
    for split, share in FRACTIONS.items():
        assert abs(chosen.count(split) - share * count) <= 1


def test_splits_depend_on_the_seed_and_not_on_the_order():
    sizes = {f"place{i}": 1 + i % 3 for i in range(30)}
    backwards = dict(reversed(list(sizes.items())))
    assert assign_splits(sizes, FRACTIONS, 1) == assign_splits(backwards, FRACTIONS, 1)
    assert assign_splits(sizes, FRACTIONS, 1) != assign_splits(sizes, FRACTIONS, 2)


def test_one_huge_location_leaves_something_for_the_others():
    chosen = assign_splits({"huge": 1000, "a": 1, "b": 1}, FRACTIONS, 0)
    assert chosen["huge"] == "train"
    assert {chosen["a"], chosen["b"]} == {"val", "test"}


def test_splits_without_a_share_stay_empty():
    assert set(assign_splits({"a": 1, "b": 1}, {"train": 0.5, "test": 0.5}, 0).values()) == {"train", "test"}


def test_errors():
    with pytest.raises(DataError, match=r"at least 3 separate locations.*there are 2"):
        assign_splits({"a": 9, "b": 9}, FRACTIONS, 0)
    for fractions in ({"train": 0.5, "val": 0.2}, {"train": 0.5, "valid": 0.5}, {"train": 1.5, "val": -0.5}):
        with pytest.raises(ConfigError, match="shares of train, val, test"):
            assign_splits({"a": 1, "b": 1}, fractions, 0)


def test_footprints_in_one_crs(tmp_path, make_raster):
    first = make_raster(tmp_path / "a.tif", np.ones((40, 60), np.uint8))
    x, y = transform_points("EPSG:2180", "EPSG:32634", [500_010.0], [500_000.0])
    second = make_raster(
        tmp_path / "b.tif", np.ones((40, 60), np.uint8), crs="EPSG:32634", origin=(x[0], y[0])
    )
    places = footprints([first, second])
    assert places[0].bounds == (500_000.0, 499_980.0, 500_030.0, 500_000.0)
    assert overlap_groups(places) == [0, 0]


def test_a_crs_that_cannot_be_related_is_not_passed_over(folder_dataset, make_raster):
    root, config = folder_dataset
    site = 'LOCAL_CS["a building site",UNIT["metre",1]]'
    for kind, bands in (("images", 3), ("masks", 1)):
        make_raster(root / "set" / "test" / kind / "site.tif", np.ones((bands, 9, 9), np.uint8), crs=site)
    with pytest.warns(UserWarning, match=r"1 scene\(s\) have a CRS that cannot be related.*site\.tif"):
        assert find_leaks(open_dataset(config, root)) == []
    with pytest.raises(DataError, match=r"site\.tif: a split by location needs.*`location`"):
        open_dataset(config.model_copy(update={"folds": 3}), root).scenes("train")


def test_scenes_around_the_antimeridian(folder_dataset, make_raster):
    """One place in UTM zones 60 and 1 and in degrees beyond 180: one location, and leaks between folders."""
    root, config = folder_dataset
    scenes = {
        "zone60": ("EPSG:32760", 180.0),
        "zone1": ("EPSG:32701", -180.0),
        "away": ("EPSG:32701", -179.9),
    }
    for split, (name, (crs, longitude)) in zip(("train", "val", "test"), scenes.items()):
        x, y = transform_points("EPSG:4326", crs, [longitude], [-16.5])
        place = {"crs": crs, "origin": (x[0] - 100, y[0]), "pixel": 10.0}
        for kind, bands in (("images", 3), ("masks", 1)):
            shape = np.ones((bands, 40, 40), np.uint8)
            make_raster(root / "set" / split / kind / f"{name}.tif", shape, **place)
    place = {"crs": "EPSG:4326", "origin": (179.999, -16.499), "pixel": 1e-4}
    for kind, bands in (("images", 3), ("masks", 1)):
        make_raster(root / "set" / "test" / kind / "degrees.tif", np.ones((bands, 40, 40), np.uint8), **place)
    dataset = open_dataset(config, root)
    leaks = {frozenset((first.id, second.id)) for first, second in find_leaks(dataset)}
    assert leaks == {
        frozenset(pair) for pair in (("zone60", "zone1"), ("zone60", "degrees"), ("zone1", "degrees"))
    }
    everything = [scene for split in ("train", "val", "test") for scene in dataset.scenes(split)]
    found = dict(zip([scene.id for scene in everything], locations_of(everything)))
    assert found["zone60"] == found["zone1"] == found["degrees"] == "zone60"
    assert found["away"] == "away"


def test_scenes_are_counted_by_split(folder_dataset):
    root, config = folder_dataset
    (root / "set" / "val" / "images" / "val1.tif").unlink()
    (root / "set" / "val" / "masks" / "val1.tif").unlink()
    for file in [*(root / "set" / "test").glob("*/*.tif")]:
        file.unlink()
    assert count_scenes(open_dataset(config, root)) == {"train": 2, "val": 1, "test": 0}


def test_leaks_of_all_pairs_of_splits_and_of_windows(tmp_path, folder_dataset, make_raster):
    """One image without georeference, listed in three splits by windows that share pixels or not."""
    root, config = folder_dataset
    for name, bands in (("i", 3), ("m", 1)):
        make_raster(tmp_path / f"{name}.png", np.ones((bands, 40, 40), np.uint8), crs=None)
    windows = {"train": "0 0 20 40", "val": "20 0 10 40", "test": "29 0 11 40"}
    lines = [f"i.png,m.png,{split},{window}" for split, window in windows.items()]
    (tmp_path / "list.csv").write_text("\n".join(["image,mask,split,window", *lines]))
    options = {"pairs": str(tmp_path / "list.csv")}
    dataset = open_dataset(config.model_copy(update={"options": options}), root)
    assert [(a.id, b.id) for a, b in find_leaks(dataset)] == [("i_20_0", "i_29_0")]
    assert find_leaks(dataset, ("train", "val")) == []
    assert find_leaks(dataset, ("train", "test")) == []


def test_leaks_between_folders_are_found(folder_dataset, make_raster):
    root, config = folder_dataset
    assert find_leaks(open_dataset(config, root)) == []
    for kind, bands in (("images", 3), ("masks", 1)):
        shape = np.ones((bands, 20, 20), np.uint8)
        make_raster(root / "set" / "test" / kind / "again.tif", shape, origin=(500_010.0, 499_990.0))
        make_raster(root / "set" / "test" / kind / "plain.tif", shape, crs=None)
    assert [(a.id, b.id) for a, b in find_leaks(open_dataset(config, root))] == [("train0", "again")]


@pytest.mark.shared_data
def test_the_real_split_by_location_does_not_leak(shared_data):
    classes = tuple(ClassConfig(name=str(v), values=(v,), color="#000000") for v in (10, 30, 50, 70, 100))
    config = DataConfig(dataset="geotiff_folder", root="sentinel2_korea", bands=(3, 2, 1), classes=classes)
    assert find_leaks(open_dataset(config, shared_data)) == []


OLD_SPLITS = {
    0: {
        "train": "t03 t03, t05 t05, t06 t06, t07 t07, t08 t08, t09 t09, t11 t11, "
        "t12 t05, t13 t09, t14 t09, t15 t15, t17 t06, t22 t22, t23 t07",
        "val": "t00 t00, t01 t01, t02 t02, t04 t04, t19 t19",
        "test": "t10 t10, t16 t16, t18 t18, t20 t20, t21 t21",
    },
    7: {
        "train": "t02 t02, t03 t03, t05 t05, t06 t06, t07 t07, t08 t08, t09 t09, "
        "t11 t11, t12 t05, t13 t09, t14 t09, t17 t06, t20 t20, t23 t07",
        "val": "t04 t04, t15 t15, t16 t16, t18 t18, t21 t21",
        "test": "t00 t00, t01 t01, t10 t10, t19 t19, t22 t22",
    },
}
"""Scenes and their locations as they were before places were compared on the sphere."""


@pytest.mark.parametrize("seed", [0, 7])
def test_recipes_of_before_give_the_same_splits(tmp_path, make_raster, seed):
    random = np.random.default_rng(5)
    for number in range(24):
        origin = (500_000 + 9.0 * random.integers(0, 25), 500_000 + 9.0 * random.integers(0, 25))
        for folder, bands in (("images", 3), ("masks", 1)):
            values = np.ones((bands, 40, 40), np.uint8)
            make_raster(tmp_path / folder / f"t{number:02d}.tif", values, origin=origin)
    classes = (ClassConfig(name="a", values=(1,), color="#000000"),)
    split = {"fractions": FRACTIONS, "seed": seed}
    options = {"images": "images", "masks": "masks", "split": split}
    configs = [DataConfig(dataset="geotiff_folder", classes=classes, options=options)]
    if seed == 0:
        own = {"fractions": FRACTIONS}
        configs.append(DataConfig(dataset="landcover_ai", classes=classes, options=own))
    for config in configs:
        dataset = open_dataset(config, tmp_path)
        found = {part: [f"{one.id} {one.location}" for one in dataset.scenes(part)] for part in FRACTIONS}
        assert {part: ", ".join(names) for part, names in found.items()} == OLD_SPLITS[seed]
