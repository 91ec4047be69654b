"""What is wanted of a map, and the names of its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qhybrid.errors import ConfigError

SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class MapOptions:
    """What is mapped of a scene, and how it is written.

    Attributes:
        probabilities: Also write a float32 file with one band of probabilities a class.
        uncertainty: Also write a float32 file with the entropy, and with `draws` their spread.
        codes: Write mask values (the first one of each class) in place of class indices.
        file_format: `cog`, a Cloud Optimized GeoTIFF with overviews, or `gtiff`, a tiled one without.
        box: Left, bottom, right, top of the part that is wanted; absent: the whole scene.
        box_crs: Coordinate system of the box, such as EPSG:4326; absent: the scene's.
        draws: Predictions from different shots; the map is that of their mean probabilities. Absent: one.
        seed: Decides all shots and trajectories.
        overwrite: Replace maps that exist.
    """

    probabilities: bool = False
    uncertainty: bool = False
    codes: bool = False
    file_format: str = "cog"
    box: tuple[float, float, float, float] | None = None
    box_crs: str | None = None
    draws: int | None = None
    seed: int = 0
    overwrite: bool = False


def probabilities_path(output: str | Path) -> Path:
    """Return where the probabilities of a map go: `<stem>_probabilities<suffix>` beside it."""
    return _beside(Path(output), "probabilities")


def uncertainty_path(output: str | Path) -> Path:
    """Return where the uncertainty of a map goes: `<stem>_uncertainty<suffix>` beside it."""
    return _beside(Path(output), "uncertainty")


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.stem}_{what}{path.suffix}")


def map_files(output: str | Path, options: MapOptions) -> tuple[Path, ...]:
    """Return the files of a map, the map itself first."""
    files = [Path(output)]
    if options.probabilities:
        files.append(probabilities_path(output))
    if options.uncertainty:
        files.append(uncertainty_path(output))
    return tuple(files)


def check_output(output: str | Path) -> Path:
    """Return the path of a map.

    Raises:
        ConfigError: If it does not end as a GeoTIFF does.
    """
    path = Path(output)
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"Argument `output` must end in {' or '.join(SUFFIXES)}, but is {path}.")
    return path
