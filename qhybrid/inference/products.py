"""What is made of a finished map: polygons, and a page to look at it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from qhybrid.data.classes import ClassMap
from qhybrid.data.map_bands import MapBands, class_bands
from qhybrid.data.polygons import (
    check_polygon_scene,
    check_polygons,
    write_polygons,
)
from qhybrid.errors import ConfigError, WorkspaceError
from qhybrid.inference.companions import POLYGON_SUFFIXES as KINDS
from qhybrid.inference.companions import described
from qhybrid.inference.map_writing import MapJob
from qhybrid.inference.part_folder import work_path
from qhybrid.inference.preview import preview_path, write_preview
from qhybrid.plugins import near_name


@dataclass(frozen=True)
class Products:
    """Files that are made of each map.

    Attributes:
        polygons: `gpkg` or `geojson` for `<stem>.gpkg` or `<stem>.geojson` beside the map, or a path with
            such a suffix; None for none.
        simplify: Tolerance of the polygons in pixels.
        min_area: Least area of a polygon in square metres.
        preview: Also make the page `<stem>.html` beside the map.
    """

    polygons: str | None = None
    simplify: float = 1.0
    min_area: float = 0.0
    preview: bool = False

    def check(self) -> None:
        """Check the options, before anything is read.

        Raises:
            ConfigError: If one is out of range.
        """
        if self.polygons is None:
            return
        if self.polygons not in KINDS and not Path(self.polygons).suffix:
            raise ConfigError(
                f"Polygons must be {' or '.join(KINDS)}, or a file that ends so, but are {self.polygons}."
                f"{near_name(self.polygons, KINDS)}"
            )
        check_polygons(
            f"x.{self.polygons}" if self.polygons in KINDS else self.polygons, self.simplify, self.min_area
        )

    def polygon_file(self, output: Path) -> Path | None:
        """Return the file of polygons of a map; None if there is to be none."""
        if self.polygons is None:
            return None
        return output.with_suffix(KINDS[self.polygons]) if self.polygons in KINDS else Path(self.polygons)

    def files(self, output: Path) -> tuple[Path, ...]:
        """Return the files that are made of a map."""
        polygons = self.polygon_file(output)
        found = () if polygons is None else (polygons,)
        return (*found, preview_path(output)) if self.preview else found

    def check_scene(self, job: MapJob) -> None:
        """Check before mapping that the map can be turned into what is wanted.

        Raises:
            DataError: If polygons are wanted of a map that is not on a regular grid.
        """
        if self.polygons is not None:
            check_polygon_scene(job.like, self.min_area)

    def _key(self, job: MapJob, file: Path) -> str:
        told = f"{job.key} {self.simplify} {self.min_area} {file.suffix}"
        return hashlib.sha256(told.encode()).hexdigest()

    def missing(self, job: MapJob) -> list[Path]:
        """Return the files that are not there, or are not of this map and these settings."""
        return [
            file
            for file in self.files(job.files[0])
            if not file.is_file() or described(file) != self._key(job, file)
        ]

    def check_free(self, job: MapJob) -> None:
        """Check that no file of another map or other settings would be lost.

        Raises:
            WorkspaceError: If one is there and `overwrite` was not asked for.
        """
        taken = [file for file in self.missing(job) if file.exists()]
        if taken and not job.options.overwrite:
            raise WorkspaceError(
                f"{taken[0]} exists already and would be lost. Fix: choose another name, or ask for it "
                "(--overwrite)."
            )

    def make(self, job: MapJob, classes: ClassMap) -> None:
        """Make what is missing."""
        bands: MapBands = class_bands(classes, job.options.codes)
        for file in self.missing(job):
            key = self._key(job, file)
            with work_path(file) as target:
                if file.suffix == ".html":
                    write_preview(job.files[0], target, bands, key)
                else:
                    write_polygons(
                        job.files[0],
                        target,
                        bands,
                        simplify=self.simplify,
                        min_area=self.min_area,
                        description=key,
                    )
