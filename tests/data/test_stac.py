import functools
import json
import sys
import threading
import warnings
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import rasterio

from qhybrid.config import ClassConfig, DataConfig
from qhybrid.data import stac
from qhybrid.data.raster import read_window
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.splits import find_leaks
from qhybrid.errors import ConfigError, DataError, DatasetNotFoundError, MissingDependencyError

CLASSES = (
    ClassConfig(name="field", values=(1,), color="#c8b060"),
    ClassConfig(name="wood", values=(2, 7), color="#206020"),
    ClassConfig(name="town", values=(3,), color="#a03020"),
)

pystac = pytest.importorskip("pystac")
pytest.importorskip("pystac_client")
SPLITS = ("train", "val", "test")
HALVES = {"fractions": {"train": 0.5, "val": 0.25, "test": 0.25}}


def item(name, assets, collection="s2", **extra):
    """Return a STAC item as a mapping; assets: key -> address."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": collection,
        "geometry": None,
        "properties": {"datetime": "2024-06-01T00:00:00Z"},
        "links": [],
        "assets": {key: {"href": href, **extra.get(key, {})} for key, href in assets.items()},
    }


@pytest.fixture
def catalog(tmp_path, make_raster):
    """Return the data root and items of four scenes, 1 km apart but for the last two, which overlap."""
    random = np.random.default_rng(0)
    items = []
    for number, x in enumerate((0.0, 1000.0, 2000.0, 2010.0)):
        origin, folder = (500_000.0 + x, 500_000.0), tmp_path / "set" / f"i{number}"
        fine, coarse = (random.integers(1, 4000, shape, dtype=np.uint16) for shape in ((40, 60), (20, 30)))
        make_raster(folder / "red.tif", fine, origin=origin, nodata=0)
        make_raster(folder / "nir.tif", coarse, origin=origin, pixel=1.0, nodata=0)
        make_raster(folder / "visual.tif", random.integers(0, 255, (3, 40, 60), np.uint8), origin=origin)
        make_raster(folder / "mask.tif", np.ones((40, 60), np.uint8), origin=origin)
        keys = ("red", "nir", "visual", "mask")
        assets = {key: f"./i{number}/{key}.tif" for key in keys}
        items.append(item(f"scene{number}", assets, red={"raster:bands": [{"scale": 1e-4, "offset": -0.1}]}))
    content = {"type": "FeatureCollection", "features": items}
    (tmp_path / "set" / "items.json").write_text(json.dumps(content))
    return tmp_path, items


def opened(root, **options):
    options = {"assets": ["red", "nir"], "labels": "mask", "split": HALVES, **options}
    if "url" not in options:
        options.setdefault("items", "items.json")
    config = DataConfig(dataset="stac", root="set", options=options, classes=CLASSES, patch_size=16)
    return open_dataset(config, root)


def test_assets_are_stacked_on_the_finest_grid(catalog):
    root, _ = catalog
    dataset = opened(root, resampling="nearest")
    scenes = {scene.id: scene for split in SPLITS for scene in dataset.scenes(split)}
    assert sorted(scenes) == [f"scene{number}" for number in range(4)]
    scene = scenes["scene1"]
    assert scene.mask == root / "set" / "i1" / "mask.tif"
    data, valid = read_window(scene.image, (0, 0, 40, 60))
    with rasterio.open(root / "set" / "i1" / "red.tif") as red, rasterio.open(scene.image) as stack:
        np.testing.assert_array_equal(data[0], red.read(1))
        assert (stack.crs, stack.transform, stack.descriptions) == (red.crs, red.transform, ("red", "nir"))
        assert (stack.scales, stack.offsets, stack.nodatavals) == ((1e-4, 1.0), (-0.1, 0.0), (0.0, 0.0))
    with rasterio.open(root / "set" / "i1" / "nir.tif") as nir:
        np.testing.assert_array_equal(data[1], np.kron(nir.read(1), np.ones((2, 2), np.uint16)))
    assert valid.all()


@pytest.mark.parametrize("key", ["earthsearch:boa_offset_applied", "sentinel:boa_offset_applied"])
def test_an_offset_that_is_in_the_numbers_already_is_not_applied_again(catalog, key):
    """Items of Earth Search name the offset of Sentinel-2 whether or not the files still have it."""
    root, items = catalog
    for applied, content in zip((True, False), items):
        content["properties"][key] = applied
    (root / "set" / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    for scene in opened(root, split={"train": ["scene0", "scene1"]}).scenes("train"):
        with rasterio.open(scene.image) as stack:
            offset = {"scene0": 0.0, "scene1": -0.1}[scene.id]
            assert (stack.scales, stack.offsets) == ((1e-4, 1.0), (offset, 0.0))


def test_bands_that_are_shifted_lie_where_they_belong(catalog, make_raster):
    """A coarse band of the right half of the scene: nodata on the left."""
    root, _ = catalog
    half = np.arange(1, 301, dtype=np.uint16).reshape(20, 15)
    for number in range(4):
        place = {"origin": (500_015.0 + (0, 1000, 2000, 2010)[number], 500_000.0), "pixel": 1.0, "nodata": 0}
        make_raster(root / "set" / f"i{number}" / "nir.tif", half, **place)
    (scene,) = opened(root, split={"train": ["scene0"]}, resampling="nearest").scenes("train")
    data, _ = read_window(scene.image, (0, 0, 40, 60))
    np.testing.assert_array_equal(data[1, :, 30:], np.kron(half, np.ones((2, 2), np.uint16)))
    assert (data[1, :, :30] == 0).all()


def test_scenes_that_overlap_are_in_one_split(catalog):
    root, _ = catalog
    for seed in range(4):
        dataset = opened(root, split={**HALVES, "seed": seed})
        assert find_leaks(dataset) == []
        by_split = {split: {scene.id for scene in dataset.scenes(split)} for split in SPLITS}
        assert {"scene2", "scene3"} in by_split.values()


@pytest.mark.parametrize(
    ("assets", "expected"),
    [
        (["visual"], ["visual:1", "visual:2", "visual:3"]),
        (["visual:3", "red"], ["visual:3", "red"]),
    ],
)
def test_assets_of_several_bands(catalog, assets, expected):
    root, _ = catalog
    (scene,) = opened(root, assets=assets, split={"train": ["scene0"]}).scenes("train")
    with rasterio.open(scene.image) as stack, rasterio.open(root / "set" / "i0" / "visual.tif") as visual:
        assert list(stack.descriptions) == expected
        number = int(expected[0][-1])
        np.testing.assert_array_equal(stack.read(1), visual.read(number))


def test_single_items_catalogs_and_patterns(catalog):
    root, items = catalog
    for number, content in enumerate(items):
        for asset in content["assets"].values():
            asset["href"] = asset["href"].removeprefix(f"./i{number}/")
        (root / "set" / f"i{number}" / "item.json").write_text(json.dumps(content))
    everything = {"train": [f"scene{number}" for number in range(4)]}
    one = opened(root, items="i2/item.json", split={"train": ["scene2"]})
    assert one.scenes("train")[0].mask == root / "set" / "i2" / "mask.tif"
    many = opened(root, items="*/item.json", split=everything)
    assert len(many.scenes("train")) == 4
    tree = pystac.Catalog("all", "of this test")
    tree.add_items(pystac.Item.from_file(str(root / "set" / f"i{n}" / "item.json")) for n in range(2))
    for entry in tree.get_items():
        entry.make_asset_hrefs_absolute()
    tree.normalize_and_save(str(root / "set" / "tree"), pystac.CatalogType.SELF_CONTAINED)
    below = opened(root, items="tree/catalog.json", split={"train": ["scene1"], "val": ["scene0"]})
    assert below.scenes("val")[0].mask == root / "set" / "i0" / "mask.tif"


def test_one_file_of_labels(catalog, make_raster):
    root, _ = catalog
    labels = make_raster(root / "set" / "all.tif", np.ones((40, 60), np.uint8))
    (scene,) = opened(root, labels="all.tif", split={"train": ["scene0"]}).scenes("train")
    assert scene.mask == labels


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"items": "none.json"}, DatasetNotFoundError, r"none\.json: must be a file of STAC items"),
        ({"items": "no*.json"}, DatasetNotFoundError, "must have items, but none"),
        ({"items": "i0/red.tif"}, DataError, r"red\.tif: must be a file of STAC items, but cannot be read"),
        ({"assets": ["green"]}, DataError, r"Item scene0: .*no green; there are mask, nir, red, visual"),
        ({"labels": "maks"}, DataError, r"`data\.options\.labels` must name assets, but there is no maks"),
        ({"assets": ["visual:4"]}, DataError, r"band 4 of asset visual is needed, but the file has 3"),
        ({"split": {"train": ["scene9"]}}, DataError, "scene9 of `data.options.split.train`"),
        ({"url": "https://x", "items": "a.json"}, ConfigError, "either `items`, files, or `url`"),
        ({"bbox": [0, 0, 1, 1]}, ConfigError, "`bbox` is for searching an API"),
        ({"assets": []}, ConfigError, "assets"),
        ({"split": {**HALVES, "blocks": 20, "margin": 8}}, ConfigError, "24 or more"),
    ],
)
def test_errors(catalog, options, error, message):
    root, _ = catalog
    with pytest.raises(error, match=f"(?s){message}"):
        opened(root, **options).scenes("train")


def test_bands_in_two_crs_are_refused(catalog, make_raster):
    root, _ = catalog
    make_raster(root / "set" / "i0" / "nir.tif", np.ones((20, 30), np.uint16), crs="EPSG:32634")
    with pytest.raises(DataError, match="bands of one scene must be in one CRS"):
        opened(root).scenes("train")


def test_without_the_extra_the_remedy_is_named(catalog, monkeypatch):
    root, _ = catalog
    monkeypatch.setitem(sys.modules, "pystac", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'qhybrid\[stac\]'"):
        opened(root)


@pytest.fixture
def api(catalog):
    """Return the address of a STAC API that finds the items, and the bodies of the searches sent to it."""
    root, items = catalog
    for content in items:
        for asset in content["assets"].values():
            asset["href"] = str(root / "set" / asset["href"].removeprefix("./"))
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self, content):
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            address = f"http://127.0.0.1:{self.server.server_port}"
            base = "https://api.stacspec.org/v1.0.0/"
            links = [{"rel": "self", "href": address}, {"rel": "root", "href": address}]
            links.append({"rel": "search", "href": f"{address}/search", "method": "POST"})
            links[-1]["type"] = "application/geo+json"
            kind = {"type": "Catalog", "id": "here", "stac_version": "1.0.0", "description": "test"}
            self.answer({**kind, "conformsTo": [f"{base}core", f"{base}item-search"], "links": links})

        def do_POST(self):
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer({"type": "FeatureCollection", "features": items[::-1], "links": []})

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_items_of_an_api(catalog, api):
    root, _ = catalog
    address, asked = api
    search = {"collections": ["s2"], "bbox": [20.0, 50.0, 21.0, 51.0], "datetime": "2024-06-01/2024-07-01"}
    dataset = opened(root, url=address, split={"train": ["scene0", "scene3"]}, **search)
    assert [scene.id for scene in dataset.scenes("train")] == ["scene0", "scene3"]
    assert asked[0]["collections"] == ["s2"]
    assert asked[0]["bbox"] == search["bbox"]
    with pytest.warns(UserWarning, match="more than 2 items for this search"):
        assert len(opened(root, url=address, limit=2, split={"train": ["scene1"]}).scenes("train")) == 1


def test_addresses_relative_to_items_of_an_api(catalog, api):
    _, items = catalog
    address, _ = api
    for number, content in enumerate(items):
        content["links"] = [{"rel": "self", "href": f"{address}/collections/s2/items/scene{number}"}]
        content["assets"]["red"]["href"] = f"./{number}/red.tif"
    found = stac._searched(stac.StacOptions(url=address, assets=["red"], labels="mask", split=HALVES))
    place = stac._place(*found[0][:1], "red", found[0][1], "assets")
    assert str(place) == f"{address}/collections/s2/items/0/red.tif"


def test_a_static_catalog_behind_an_address(catalog, monkeypatch):
    """It cannot be searched; all of it is read where its address stands for `items`."""
    root, items = catalog
    folder = root / "set" / "tree"
    tree = pystac.Catalog("all", "of this test")
    tree.add_items(pystac.Item.from_dict(content) for content in items)
    tree.normalize_hrefs(str(folder))
    for item in tree.get_items():
        for key, asset in item.assets.items():
            asset.href = f"./{key}.tif"
    tree.save(pystac.CatalogType.SELF_CONTAINED)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/catalog.json"
    dataset = opened(root, url=address, split={"train": ["scene1"]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match="give the address as `items`"):
            dataset.scenes("train")
    found = stac._read(root, address)
    assert sorted(item.id for item, _ in found) == [f"scene{number}" for number in range(4)]
    place = stac._place(*found[0][:1], "mask", found[0][1], "labels")
    assert str(place) == address.replace("catalog.json", f"{found[0][0].id}/mask.tif")
    with pytest.raises(DataError, match=r"nothing\.json: must be a file of STAC items, but cannot be read"):
        stac._read(root, address.replace("catalog", "nothing"))
    server.shutdown()
    server.server_close()


def test_an_api_that_is_not_there(catalog):
    root, _ = catalog
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9: must be a STAC API, but cannot be searched"):
        opened(root, url="http://127.0.0.1:9").scenes("train")
