"""Data set `seasonet`: Sentinel-2 patches of Germany in five seasons, 33 classes of land cover.

D. Kossmann et al., SeasoNet, IGARSS 2022, https://doi.org/10.5281/zenodo.5850306. A patch is a folder with
one file a resolution; here its bands are one raster on the grid of 10 m.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import pandas as pd
from pydantic import Field

from qhybrid.config import ClassConfig, DataConfig, StrictModel, validated
from qhybrid.data.band_stack import BandSource, stack_bands
from qhybrid.data.classes import ClassMap
from qhybrid.data.scenes import Scene, SceneDataset, check_pairs, check_split
from qhybrid.errors import DataError, DatasetNotFoundError, EmptySplitError

Season = Literal["Spring", "Summer", "Fall", "Winter", "Snow"]
FILES: dict[str, tuple[str, ...]] = {
    "10m_RGB": ("B04", "B03", "B02"),
    "10m_IR": ("B08",),
    "20m": ("B05", "B06", "B07", "B8A", "B11", "B12"),
    "60m": ("B01", "B09"),
}
"""Sentinel-2's names of the bands in each file of a patch, in its order.

torchgeo's SeasoNet has the same files with 3, 1, 6 and 2 bands. The order is that of GEO-Bench's converter
(github.com/ServiceNow/geo-bench, ccb/dataset_converters/seasonet.py). Means over summer patches that others
have published fit it and no other order: 723, 700, 459; 2828; 1135, 2237, 2691, 2959, 2100, 1319; 353, 2953
(red below red edge below infrared, B11 above B12, the aerosol band dark and the water vapour band bright).
"""
_COLUMNS = ("Path", "Season", "Grid", "Latitude", "Longitude")
_CLASSES = """
e6004d continuous_urban; ff0000 discontinuous_urban; cc4df2 industrial_commercial; cc0000 road_rail
e6cccc port; e6cce6 airport; a600cc mineral_extraction; a64d00 dump; ff4dff construction
ffa6ff green_urban; ffe6ff sport_leisure; ffffa8 arable; e68000 vineyard; f2a64d fruit_berry
e6e64d pasture; 80ff00 broadleaved_forest; 00a600 coniferous_forest; 4dff00 mixed_forest
ccf24d natural_grassland; a6ff80 moor_heath; a6f200 transitional_woodland; e6e6e6 beach_dune_sand
cccccc bare_rock; ccffcc sparse_vegetation; a6a6ff inland_marsh; 4d4dff peat_bog; ccccff salt_marsh
a6a6e6 intertidal_flat; 00ccf2 water_course; 80f2e6 water_body; 00ffa6 lagoon; a6ffe6 estuary
e6f2ff sea_ocean
"""
"""CORINE's colours and classes, in the order of SeasoNet's numbers from 1."""
SEASONET_CLASSES = tuple(
    ClassConfig(name=name, values=(number,), color=f"#{color}")
    for number, (color, name) in enumerate(
        (one.split() for one in _CLASSES.replace("\n", ";").split(";") if one.strip()), start=1
    )
)


class SeasoNetOptions(StrictModel):
    """Keys of `data.options`.

    Attributes:
        seasons: Seasons whose patches are taken.
        grids: Of the two grids, shifted by half a patch against each other, those that are taken. Patches of
            both overlap.
        files: Which of a patch's files: 10m_RGB, 10m_IR, 20m, 60m.
        limit: Patches of a split at most, evenly spread over its list; all by default (more than a million
            in training).
        resampling: How bands of 20 m come to the grid of 10 m.
    """

    seasons: tuple[Season, ...] = Field(("Spring", "Summer", "Fall", "Winter", "Snow"), min_length=1)
    grids: tuple[Literal[1, 2], ...] = Field((1,), min_length=1)
    files: tuple[Literal["10m_RGB", "10m_IR", "20m", "60m"], ...] = Field(
        ("10m_RGB", "10m_IR", "20m"), min_length=1
    )
    limit: int | None = Field(None, ge=1)
    resampling: Literal["nearest", "bilinear", "cubic"] = "bilinear"


class SeasoNet(SceneDataset):
    """Patches of the official splits (meta.csv and splits/), each a scene of 120 x 120 pixels."""

    name: ClassVar[str] = "seasonet"
    description: ClassVar[str] = (
        "SeasoNet: Sentinel-2 of Germany in five seasons, 33 classes, official splits"
    )
    Options: ClassVar[type[StrictModel]] = SeasoNetOptions

    def __init__(self, root: Path, options: SeasoNetOptions, classes: ClassMap) -> None:
        self.root, self.options, self.classes = root, options, classes
        self._table: pd.DataFrame | None = None
        self._found: dict[str, tuple[Scene, ...]] = {}

    @classmethod
    def from_config(cls, config: DataConfig, root: Path) -> Self:
        """Build the data set of a recipe, with the published classes unless the recipe has its own.

        Raises:
            ConfigError: If an option is wrong.
        """
        options = validated(SeasoNetOptions, config.options, "data.options")
        classes = ClassMap.from_config(config.classes or SEASONET_CLASSES, config.ignore_values)
        return cls(root, options, classes.read_as(config))

    def scenes(self, split: str) -> tuple[Scene, ...]:
        """Return the patches of a split in the order of its list; see `SceneDataset.scenes`."""
        check_split(split)
        if split not in self._found:
            rows = self._rows(split)
            if not len(rows):
                raise EmptySplitError(
                    f"{self.root}: split {split} must have patches, but has none of these seasons and grids. "
                    "Fix: change `data.options`."
                )
            found = tuple(self._scene(row) for row in rows.to_dict("records"))
            check_pairs(found, self.classes)
            self._found[split] = found
        return self._found[split]

    def _rows(self, split: str) -> pd.DataFrame:
        """Return the rows of meta.csv that a split's list names, of the chosen seasons and grids."""
        if self._table is None:
            self._table = self._read("meta.csv")
            missing = [column for column in _COLUMNS if column not in self._table]
            if missing:
                raise DataError(
                    f"{self.root / 'meta.csv'}: must have columns {', '.join(_COLUMNS)}, but has no "
                    f"{missing[0]}. Fix: use the file of SeasoNet."
                )
        places = self._read(f"splits/{split}.csv", header=None)[0].to_numpy()
        if len(places) and not 0 <= places.min() <= places.max() < len(self._table):
            raise DataError(
                f"{self.root / 'splits' / split}.csv: must hold places of rows of meta.csv, from 0 to "
                f"{len(self._table) - 1}, but holds {places.min()} to {places.max()}. Fix: use lists and "
                "table of one release."
            )
        rows = self._table.iloc[places]
        chosen = rows["Season"].isin(self.options.seasons) & rows["Grid"].isin(self.options.grids)
        rows = rows[chosen]
        limit = self.options.limit
        if limit is None or limit >= len(rows):
            return rows
        return rows.iloc[[number * len(rows) // limit for number in range(limit)]]

    def _read(self, name: str, header: int | None = 0) -> pd.DataFrame:
        file = self.root / name
        try:
            return pd.read_csv(file, header=header)
        except (OSError, ValueError) as error:
            raise DatasetNotFoundError(
                f"{file}: must be SeasoNet's table, but cannot be read ({error}). Fix: get the data set from "
                "https://doi.org/10.5281/zenodo.5850306 and unpack its archives side by side, or check "
                "--data-root and `data.root`."
            ) from error

    def _scene(self, row: Mapping[Any, Any]) -> Scene:
        folder = self.root / str(row["Path"])
        name = folder.name
        files = {kind: folder / f"{name}_{kind}.tif" for kind in self.options.files}
        mask = folder / f"{name}_labels.tif"
        missing = next((file for file in (*files.values(), mask) if not file.is_file()), None)
        if missing is not None:
            raise DatasetNotFoundError(
                f"{missing}: is missing, though meta.csv names the patch. Fix: unpack the archive of season "
                f"{row['Season']}."
            )
        sources = [
            BandSource(band, file, number, whole_name=True)
            for kind, file in files.items()
            for number, band in enumerate(FILES[kind], start=1)
        ]
        image = stack_bands(sources, self.options.resampling)
        return Scene(str(row["Path"]), image, mask, location=f"{row['Latitude']}, {row['Longitude']}")
