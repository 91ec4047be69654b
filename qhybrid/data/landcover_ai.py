"""Data set `landcover_ai`: orthophotos of Poland with five classes, read from the scenes as published.

Boguszewski et al., LandCover.ai, CVPR Workshops 2021 (arXiv 2005.02264); https://landcover.ai.linuxpolska.com.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field

from qhybrid.config import ClassConfig, DataConfig, StrictModel, validated
from qhybrid.data.archives import extract_zip
from qhybrid.data.classes import ClassMap
from qhybrid.data.download import fetch
from qhybrid.data.file_patterns import find_files, pair_files
from qhybrid.data.pairs import check_pair
from qhybrid.data.raster import Window
from qhybrid.data.scenes import SPLITS, Scene, SceneDataset, check_split
from qhybrid.data.splits import assign_splits, locations_of
from qhybrid.data.tiling import TILE_SIZE
from qhybrid.errors import DataError, DatasetNotFoundError, EmptySplitError, WorkspaceError

URL = "https://landcover.ai.linuxpolska.com/download/landcover.ai.v1.zip"
MD5 = "3268c89070e8734b4e91d531c0617e03"
"""Checksum of the published archive (the one TorchGeo uses)."""

LANDCOVER_CLASSES: tuple[ClassConfig, ...] = (
    ClassConfig(name="background", values=(0,), color="#e3dcc5"),
    ClassConfig(name="building", values=(1,), color="#c0392b"),
    ClassConfig(name="woodland", values=(2,), color="#1e7b34"),
    ClassConfig(name="water", values=(3,), color="#2f7ed8"),
    ClassConfig(name="road", values=(4,), color="#4d4d4d"),
)


class LandCoverOptions(StrictModel):
    """Keys of `data.options`.

    Attributes:
        split: `official` reads the authors' lists of tiles (train.txt, val.txt, test.txt); `location` gives
            whole scenes to splits; `auto` is `official` where the lists are present.
        fractions: Shares of train, val and test of a split by location.
        seed: Seed of a split by location.
    """

    split: Literal["auto", "official", "location"] = "auto"
    fractions: dict[str, float] = Field(default_factory=lambda: {"train": 0.7, "val": 0.15, "test": 0.15})
    seed: int = 0


class LandCoverAI(SceneDataset):
    """Scenes, or the official tiles as windows of scenes, from folders images/ and masks/."""

    name: ClassVar[str] = "landcover_ai"
    description: ClassVar[str] = (
        "LandCover.ai: aerial RGB of Poland, background, building, woodland, water, road"
    )
    Options: ClassVar[type[StrictModel]] = LandCoverOptions

    def __init__(self, root: Path, options: LandCoverOptions, classes: ClassMap) -> None:
        """Describe the data set; files are looked at when `scenes` is called.

        Args:
            root: Folder with images/ and masks/.
            options: How to split.
            classes: The label map.
        """
        self.root = root
        self.options = options
        self.classes = classes
        self._pairs: dict[str, tuple[Path, Path, tuple[int, int]]] = {}

    @classmethod
    def from_config(cls, config: DataConfig, root: Path) -> Self:
        """Build the data set of a recipe; its label map is the published one unless the recipe has its own.

        Raises:
            ConfigError: If an option is wrong.
        """
        options = validated(LandCoverOptions, config.options, "data.options")
        classes = ClassMap.from_config(config.classes or LANDCOVER_CLASSES, config.ignore_values)
        return cls(root, options, classes.read_as(config))

    def scenes(self, split: str) -> tuple[Scene, ...]:
        """Return the scenes or tiles of a split; see `SceneDataset.scenes`."""
        check_split(split)
        listed = all((self.root / f"{name}.txt").is_file() for name in SPLITS)
        official = self.options.split == "official" or (self.options.split == "auto" and listed)
        found = self._tiles(split) if official else self._whole_scenes(split)
        if not found:
            raise EmptySplitError(
                f"{self.root}: split {split} must have scenes, but is empty. Fix: change `data.options`."
            )
        return found

    def _files(self) -> dict[str, tuple[Path, Path, tuple[int, int]]]:
        """Return image, mask and shape of each scene, checked once."""
        if not self._pairs:
            remedy = "Fix: run `qhybrid data fetch landcover_ai`, or check --data-root and `data.root`."
            folders = ("images", "masks")
            images, masks = (find_files(self.root, folder, remedy) for folder in folders)
            pairs, _ = pair_files(images, masks, folders)
            missing = sorted(name for name, (_, mask) in pairs.items() if mask is None)
            if missing or not pairs:
                what = (
                    f"{len(missing)} images have no mask ({missing[0]})" if missing else "there are no images"
                )
                raise DatasetNotFoundError(f"{self.root}: each image must have a mask, but {what}. {remedy}")
            for name, (image, mask) in pairs.items():
                if mask is not None:
                    info, _ = check_pair(image, mask, self.classes)
                    self._pairs[name] = (image, mask, info.shape)
        return self._pairs

    def _tiles(self, split: str) -> tuple[Scene, ...]:
        file = self.root / f"{split}.txt"
        try:
            names = file.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetNotFoundError(
                f"{file}: must be the official list of tiles, but cannot be read ({error}). Fix: fetch the "
                "data set again, or set `data.options.split` to location."
            ) from error
        return tuple(self._tile(name, file) for name in names)

    def _tile(self, name: str, source: Path) -> Scene:
        scene, _, number = name.rpartition("_")
        files = self._files()
        if scene not in files or not number.isdecimal():
            raise DataError(
                f"{source}: tile {name} must be <scene>_<number> of a scene in {self.root / 'images'}."
            )
        image, mask, (height, width) = files[scene]
        # The authors' split.py counts every position row by row, also the partial ones that it then leaves
        # out.
        row, col = divmod(int(number), -(-width // TILE_SIZE))
        window = Window(row * TILE_SIZE, col * TILE_SIZE, TILE_SIZE, TILE_SIZE)
        if window.row + TILE_SIZE > height or window.col + TILE_SIZE > width:
            raise DataError(
                f"{source}: tile {name} must lie in its scene, but would be window {tuple(window)} of "
                f"{image}, which has {height} x {width} pixels. Fix: use the scenes that the list was made "
                f"for."
            )
        return Scene(id=name, image=image, mask=mask, location=name, window=window)

    def _whole_scenes(self, split: str) -> tuple[Scene, ...]:
        files = self._files()
        names = list(files)
        scenes = [Scene(name, image, mask, location=name) for name, (image, mask, _) in files.items()]
        location = dict(zip(names, locations_of(scenes)))
        pixels = dict.fromkeys(location.values(), 0)
        for name, (_, _, (height, width)) in files.items():
            pixels[location[name]] += height * width
        chosen = assign_splits(pixels, self.options.fractions, self.options.seed)
        return tuple(
            Scene(id=name, image=image, mask=mask, location=location[name])
            for name, (image, mask, _) in files.items()
            if chosen[location[name]] == split
        )


def fetch_landcover_ai(
    root: Path,
    url: str = URL,
    md5: str | None = MD5,
    progress: Callable[[int, int | None], None] | None = None,
    keep_archive: bool = False,
) -> Path:
    """Download and unpack LandCover.ai; an interrupted download is resumed.

    Args:
        root: Folder of the data set; it must be empty or absent.
        url: The archive.
        md5: Its checksum; None skips the check.
        progress: Called with (bytes so far, bytes in all or None).
        keep_archive: Leave the archive beside the folder.

    Returns:
        The folder.

    Raises:
        WorkspaceError: If the folder is in use or the disk too small.
        DataError: If the archive is damaged or is not LandCover.ai.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise WorkspaceError(
            f"{root} already exists and is not empty. Fix: remove it to fetch the data set again."
        )
    archive = fetch(url, root.parent / f"{root.name}.v1.zip", md5=md5, progress=progress)
    extract_zip(archive, root, required=("images/", "masks/"))
    if not keep_archive:
        archive.unlink()
    return root
