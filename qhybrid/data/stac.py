"""Data set `stac`: items of a SpatioTemporal Asset Catalog, from files or from an API."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from qhybrid.config import DataConfig, StrictModel, validated
from qhybrid.data.band_stack import BandSource, stack_bands
from qhybrid.data.blocks import divide
from qhybrid.data.classes import ClassMap
from qhybrid.data.file_patterns import is_file_name
from qhybrid.data.locations import as_location, join_location, local_file
from qhybrid.data.scenes import Assign, Scene, SceneDataset, check_pairs, check_split
from qhybrid.data.split_options import SplitOptions, split_by_fractions, split_by_names
from qhybrid.errors import DataError, DatasetNotFoundError, EmptySplitError, optional_import

_TIMEOUT = (10, 60)
"""Seconds to connect to an API, and to wait for its answer."""

_OFFSET_APPLIED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
"""Properties of items whose files hold numbers without Sentinel-2's offset, though `raster:bands` may name it
(https://github.com/Element84/earth-search/issues/9)."""


class StacOptions(StrictModel):
    """Keys of `data.options`.

    Attributes:
        items: File of an item, an item collection or a catalog, or a pattern of files with `*`, below the
            data set's root; or the address of such a file, as of a static catalog.
        url: Address of a STAC API to search instead. What it returns may change: for a fixed data set save
            the items to a file.
        collections: Collections to search.
        bbox: West, south, east and north of the search, in degrees.
        datetime: Time of the search, as in `2024-05-01/2024-09-30`.
        query: Further conditions, as in `{eo:cloud_cover: {lt: 10}}`.
        limit: Items at most.
        assets: Assets that are the bands, in this order: `B04`, or `visual:2` for one of several bands.
            Coarser ones are resampled to the finest grid.
        labels: Asset of the labels, or a file of labels of all items below the data set's root.
        resampling: How coarser bands are resampled.
        split: How to split: by fractions of locations, by blocks, or by lists of item ids.
    """

    items: str | None = Field(None, min_length=1)
    url: str | None = Field(None, min_length=1)
    collections: tuple[str, ...] = ()
    bbox: tuple[float, float, float, float] | None = None
    datetime: str | None = None
    query: dict[str, Any] = Field(default_factory=dict)
    limit: int = Field(100, ge=1)
    assets: tuple[str, ...] = Field(min_length=1)
    labels: str = Field(min_length=1)
    resampling: Literal["nearest", "bilinear", "cubic", "average"] = "bilinear"
    split: SplitOptions

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.items is None) == (self.url is None):
            raise ValueError("give either `items`, files, or `url`, an API to search")
        asked = {"collections", "bbox", "datetime", "query", "limit"} & self.model_fields_set
        if self.url is None and asked:
            raise ValueError(f"`{min(asked)}` is for searching an API: give `url`")
        return self


class StacScenes(SceneDataset):
    """A scene for each item: its assets stacked as bands."""

    name: ClassVar[str] = "stac"
    description: ClassVar[str] = "items of a STAC catalog or API, assets as bands (extra `stac`)"
    Options: ClassVar[type[StrictModel]] = StacOptions

    def __init__(self, root: Path, options: StacOptions, classes: ClassMap) -> None:
        """Describe the data set; items are looked up when `scenes` is called.

        Args:
            root: Folder that `options.items` and a file of labels are in.
            options: Which items, and what of them.
            classes: The label map.
        """
        self.root = root
        self.options = options
        self.classes = classes
        self._all: tuple[Scene, ...] = ()
        self._found: dict[str, tuple[Scene, ...]] = {}
        self._checked: set[str] = set()

    @classmethod
    def from_config(cls, config: DataConfig, root: Path) -> Self:
        """Build the data set of a recipe.

        Raises:
            ConfigError: If an option is wrong or the label map is missing.
            MissingDependencyError: If the packages of extra `stac` are not installed.
        """
        options = validated(StacOptions, config.options, "data.options")
        options.split.check_patches(config.patch_size)
        classes = ClassMap.of_recipe(config)
        optional_import("pystac_client" if options.url else "pystac", "stac")
        return cls(root, options, classes)

    def scenes(self, split: str) -> tuple[Scene, ...]:
        """Return the scenes of a split in the order of the items; see `SceneDataset.scenes`."""
        check_split(split)
        if not self._found:
            scenes, options = self._scenes(), self.options.split
            self._found = (
                split_by_names({scene.id: scene for scene in scenes}, options, self._source)
                if options.by_lists
                else split_by_fractions(scenes, options)
            )
        if not self._found.get(split):
            raise EmptySplitError(
                f"{self._source}: split {split} must have items, but is empty. Fix: change `data.options`."
            )
        if split not in self._checked:
            check_pairs(self._found[split], self.classes)
            self._checked.add(split)
        return self._found[split]

    def divided(self, assign: Assign) -> dict[str, tuple[Scene, ...]] | None:
        """Return the blocks of all items for other parts than splits; see `SceneDataset.divided`."""
        options = self.options.split
        if options.blocks is None:
            return None
        check_pairs(self._scenes(), self.classes)
        return divide(self._scenes(), options.blocks, options.margin, assign)

    @property
    def _source(self) -> str:
        return self.options.url or str(join_location(self.root, self.options.items or ""))

    def _scenes(self) -> tuple[Scene, ...]:
        if not self._all:
            items = (
                _searched(self.options) if self.options.url else _read(self.root, self.options.items or "")
            )
            if not items:
                raise DatasetNotFoundError(
                    f"{self._source}: must have items, but none are found. Fix: change the search in "
                    "`data.options`, or check `data.root` and --data-root."
                )
            names = _names([item for item, _ in items])
            self._all = tuple(self._scene(name, *found) for name, found in zip(names, items))
        return self._all

    def _scene(self, name: str, item: Any, folder: Path) -> Scene:
        """Return the scene of an item whose relative addresses start at a folder."""
        sources = [source for asset in self.options.assets for source in _bands(item, asset, folder)]
        image = stack_bands(sources, self.options.resampling)
        if self.options.labels not in item.assets and is_file_name(self.options.labels):
            return Scene(name, image, join_location(self.root, self.options.labels), name)
        return Scene(name, image, _place(item, self.options.labels, folder, "labels"), name)


def _names(items: Sequence[Any]) -> list[str]:
    """Return the items' ids, with their collections where ids are not unique."""
    ids = [str(item.id) for item in items]
    counts = Counter(ids)
    names = [
        f"{item.collection_id or 'item'}_{name}" if counts[name] > 1 else name
        for name, item in zip(ids, items)
    ]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"Item {twice[0]} must be there once, but is there several times. Fix: remove one.")
    return [name.replace("/", "_") for name in names]


def _place(item: Any, asset: str, folder: Path, key: str) -> Path:
    """Return the location of an asset.

    Raises:
        DataError: If the item does not have it.
    """
    if asset not in item.assets:
        raise DataError(
            f"Item {item.id}: `data.options.{key}` must name assets, but there is no {asset}; there are "
            f"{', '.join(sorted(item.assets)) or 'none'}. Fix: correct the name, or leave the item out."
        )
    return join_location(folder, str(item.assets[asset].href).removeprefix("file://"))


def _bands(item: Any, name: str, folder: Path) -> list[BandSource]:
    """Return the bands that an entry of `assets` stands for, with what the item says of them."""
    asset, _, number = (name, "", "") if name in item.assets else name.rpartition(":")
    if number and not number.isdecimal():
        asset, number = name, ""
    place = _place(item, asset or name, folder, "assets")
    extra = item.assets[asset or name].extra_fields
    said = tuple(
        {key.removeprefix("raster:"): value for key, value in band.items()}
        for band in extra.get("raster:bands") or extra.get("bands") or ()
    )
    if any(item.properties.get(key) is True for key in _OFFSET_APPLIED):
        said = tuple({**band, "offset": 0.0} for band in said)
    return [BandSource(asset or name, place, int(number) if number else None, said)]


def _read(root: Path, items: str) -> list[tuple[Any, Path]]:
    """Return the items of files, each with the folder that its relative addresses start at."""
    place = join_location(root, items)
    local = local_file(place) is not None
    files = sorted(root.glob(items)) if "*" in items and local else [place]
    found: list[tuple[Any, Path]] = []
    for file in files:
        if local and not file.is_file():
            raise DatasetNotFoundError(
                f"{file}: must be a file of STAC items, but is missing. Fix: check `data.options.items`, "
                "`data.root` and --data-root (or QHYBRID_DATA)."
            )
        found += _items_of(file)
    return found


def _items_of(file: Path) -> list[tuple[Any, Path]]:
    pystac = optional_import("pystac", "stac")
    try:
        kind = json.loads(pystac.StacIO.default().read_text(str(file))).get("type")
        if kind == "FeatureCollection":
            return [(item, file.parent) for item in pystac.ItemCollection.from_file(str(file))]
        if kind == "Feature":
            return [(pystac.Item.from_file(str(file)), file.parent)]
        if kind in ("Catalog", "Collection"):
            inside = pystac.Catalog if kind == "Catalog" else pystac.Collection
            items = list(inside.from_file(str(file)).get_items(recursive=True))
            return [(item, _folder_of(item)) for item in items]
    except Exception as error:  # of an address that cannot be read pystac raises a plain one
        raise DataError(f"{file}: must be a file of STAC items, but cannot be read ({error!r}).") from error
    raise DataError(
        f"{file}: must be a STAC item, item collection, catalog or collection, but its `type` is {kind!r}."
    )


def _folder_of(item: Any) -> Path:
    """Return the folder that the relative addresses of an item start at."""
    own = item.get_self_href()
    return as_location(own).parent if own else Path()


def _searched(options: StacOptions) -> list[tuple[Any, Path]]:
    """Return the items that an API finds, at most `limit`."""
    client = optional_import("pystac_client", "stac")
    requests = optional_import("requests", "stac")
    try:
        api = client.Client.open(options.url, timeout=_TIMEOUT)
        search = api.search(
            collections=list(options.collections) or None,
            bbox=options.bbox,
            datetime=options.datetime,
            query=options.query or None,
            max_items=options.limit + 1,
        )
        # In the order of their ids: what an API returns first may change.
        items = sorted(search.items(), key=lambda item: str(item.id))
    except client.warnings.DoesNotConformTo as error:
        raise DataError(
            f"{options.url}: must be a STAC API that can be searched, but is not ({error}). Fix: give the "
            "address as `items` in place of `url`, which reads all of a static catalog, or save the wanted "
            "items to a file."
        ) from error
    except (client.exceptions.APIError, requests.RequestException, OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{options.url}: must be a STAC API, but cannot be searched ({error}). Fix: check `data.options` "
            "and the network, or give files as `items`."
        ) from error
    if len(items) > options.limit:
        warnings.warn(
            f"{options.url} has more than {options.limit} items for this search: the others are left out. "
            "Fix: set `data.options.limit`, or narrow the search.",
            stacklevel=2,
        )
    return [(item, _folder_of(item)) for item in items[: options.limit]]
