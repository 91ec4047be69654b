"""Scenes, and the interface of data sets: what the rest of the program knows about images and labels."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import rasterio
from numpy.typing import NDArray

from qhybrid.config import DataConfig, StrictModel
from qhybrid.data.classes import IGNORE_INDEX, ClassMap
from qhybrid.data.contract import InputContract
from qhybrid.data.contract_reading import ImageReader
from qhybrid.data.pairs import MaskReader, check_pair
from qhybrid.data.raster import RasterInfo, Window
from qhybrid.data.raster_file import several_pages
from qhybrid.errors import DataError

SPLITS = ("train", "val", "test")


def check_split(split: str) -> None:
    """Check the name of a split.

    Raises:
        DataError: If it is none of `train`, `val` and `test`.
    """
    if split not in SPLITS:
        raise DataError(f"A split must be one of {', '.join(SPLITS)}, but is {split!r}.")


Assign = Callable[[Mapping[str, int]], Mapping[str, str]]
"""Gives each of some pieces, known by name and size, to a part: a split or a fold."""


@dataclass(frozen=True)
class Scene:
    """An image with, where known, its labels.

    Attributes:
        id: Name, unique in its data set.
        image: Raster file of the image, or a name that GDAL resolves (`qhybrid.data.locations`).
        mask: File of the labels: a raster, or polygons.
        location: Scenes with the same location may overlap; no location is in two splits.
        window: The part of the rasters that is this scene; None is all of them.
    """

    id: str
    image: Path
    mask: Path | None
    location: str
    window: Window | None = None


class SceneDataset(ABC):
    """Scenes in three splits, with one label map.

    Attributes:
        name: Name in recipes (`data.dataset`).
        description: One line for lists.
        Options: Class of its own keys (`data.options`).
        task: What is to be predicted: one class a pixel.
        splits: The splits that there may be.
        classes: The label map.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    Options: ClassVar[type[StrictModel]]
    task: ClassVar[str] = "segmentation"
    splits: ClassVar[tuple[str, ...]] = SPLITS
    classes: ClassMap

    @classmethod
    @abstractmethod
    def from_config(cls, config: DataConfig, root: Path) -> Self:
        """Build the data set of a recipe; no file is read yet.

        Args:
            config: The recipe's section `data`.
            root: The data set's folder.

        Raises:
            ConfigError: If one of its options is unknown or wrong, or a label map is needed and missing.
        """

    @abstractmethod
    def scenes(self, split: str) -> tuple[Scene, ...]:
        """Return the scenes of a split in a fixed order.

        Args:
            split: `train`, `val` or `test`.

        Raises:
            EmptySplitError: If it is empty.
            DataError: If there is no such split, or a pair of files does not fit.
        """

    def candidates(self, split: str) -> tuple[Scene, ...]:
        """Return the scenes of a split before their files are compared, for a check that names all faults.

        Args:
            split: `train`, `val` or `test`.

        Returns:
            Scenes whose files may not fit; nothing for an empty split. By default as `scenes`.
        """
        return self.scenes(split)

    def masks_without_image(self) -> tuple[Path, ...]:
        """Return masks that no image was found for, in the splits that were asked for; none by default."""
        return ()

    def divided(self, assign: Assign) -> dict[str, tuple[Scene, ...]] | None:
        """Return the scenes cut anew, where they were cut to keep splits apart.

        Args:
            assign: Gives the pieces to parts.

        Returns:
            The scenes of each part; None where scenes are what they are, and may be grouped anew.
        """
        return None


def scene_window(scene: Scene, info: RasterInfo) -> Window:
    """Return the part of its rasters that is a scene.

    Args:
        scene: The scene.
        info: Of its image.

    Raises:
        DataError: If the image does not reach that far.
    """
    window = scene.window or Window(0, 0, info.height, info.width)
    bottom, right = window.row + window.height, window.col + window.width
    if min(window) < 0 or bottom > info.height or right > info.width:
        raise DataError(
            f"{scene.image}: scene {scene.id} is window {tuple(window)} of it, but the file has "
            f"{info.height} x {info.width} pixels. Fix: use the files that the split list was made for."
        )
    return window


def check_pairs(scenes: Sequence[Scene], classes: ClassMap) -> None:
    """Check that labels fit their images, and that images reach as far as windows.

    Args:
        scenes: Scenes; files that several share are opened once.
        classes: The label map.

    Raises:
        DataError: If one does not fit.
    """
    infos: dict[tuple[Path, Path | None], RasterInfo] = {}
    masks: list[tuple[RasterInfo, RasterInfo]] = []
    for scene in scenes:
        files = (scene.image, scene.mask)
        if scene.mask is not None and files not in infos:
            infos[files], mask = check_pair(scene.image, scene.mask, classes)
            masks += [] if mask is None else [(infos[files], mask)]
        if scene.window is not None and files in infos:
            scene_window(scene, infos[files])
    _warn_of_pages_and_turns(masks)


def _warn_of_pages_and_turns(pairs: Sequence[tuple[RasterInfo, RasterInfo]]) -> None:
    """Warn of masks with several pages, and of images that are to be shown otherwise than their masks."""
    paged = [text for text in (several_pages(mask) for _, mask in pairs) if text is not None]
    turned = [image for image, mask in pairs if image.turn != mask.turn]
    if paged:
        warnings.warn(f"{paged[0]}{_and_more(paged, 'mask')}", stacklevel=3)
    if turned:
        warnings.warn(
            f"{turned[0].path}: EXIF says that it is to be shown mirrored or turned (orientation "
            f"{turned[0].turn}), and its mask does not; both are read as they are stored, and labels that "
            "were drawn on the picture as it is shown lie elsewhere. Fix: look at the sheet of `qhybrid data "
            "check --output`; if they do, turn the pixels (mogrify -auto-orient), else remove the tag."
            f"{_and_more(turned, 'image')}",
            stacklevel=3,
        )


def _and_more(found: Sequence[object], kind: str) -> str:
    return f" ({len(found)} {kind}s are so.)" if len(found) > 1 else ""


class SceneReader:
    """Image and labels of one scene, kept open for many windows, which count from its first pixel.

    Pixels are those that are read: of another size than the file's where the contract resamples images.
    """

    def __init__(
        self,
        scene: Scene,
        classes: ClassMap | None = None,
        contract: InputContract | None = None,
    ) -> None:
        """Open a scene.

        Args:
            scene: The scene.
            classes: The label map; needed to read labels.
            contract: What the model was trained on, which the scene is read for. Absent: for no model; all
                bands that hold data, as they are.

        Raises:
            DataError: If a file cannot be opened, does not reach as far as the scene's window, or cannot be
                what the model was trained on.
        """
        self._contract = contract
        self.image = self._open(scene)
        self._classes = classes
        self._mask: MaskReader | None = None
        self._mask_path: Path | None = None
        self._mask_resampled = False
        self.move_to(scene)

    def _open(self, scene: Scene) -> ImageReader:
        return ImageReader(scene.image, self._contract.reading(scene.image) if self._contract else None)

    def _open_mask(self, path: Path, classes: ClassMap) -> MaskReader:
        """Open labels on the image's pixels as they are read, where the labels are not bound to the file's.

        Otherwise labels that are finer than the file would be read at the centres of its pixels.
        """
        mask = MaskReader(path, classes, like=self.image.file_info)
        self._mask_resampled = self.image.resamples and mask.any_grid
        if self._mask_resampled:
            mask.close()
            mask = MaskReader(path, classes, like=self.image.info)
        return mask

    def move_to(self, scene: Scene) -> None:
        """Read another scene from now on; files that both scenes share stay open, with their decoded blocks.

        Raises:
            DataError: As on construction.
        """
        other_image = scene.image != self.image.path
        if other_image:
            opened = self._open(scene)
            self.image.close()
            self.image = opened
        if other_image or scene.mask != self._mask_path or self._mask is None:
            if self._mask is not None:
                self._mask.close()
            self._mask = None
            if scene.mask is not None and self._classes is not None:
                self._mask = self._open_mask(scene.mask, self._classes)
            self._mask_path = scene.mask
        self.scene = scene
        self._origin = self.image.from_file(scene_window(scene, self.image.file_info))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the scene."""
        return self._origin.height, self._origin.width

    @property
    def transform(self) -> Any:
        """Affine map from (column, row) of the scene to coordinates."""
        return self.transform_of(Window(0, 0, *self.shape))

    def transform_of(self, window: Window) -> Any:
        """Return the affine map from (column, row) of a window of the scene to coordinates."""
        col, row = self._origin.col + window.col, self._origin.row + window.row
        offset = rasterio.windows.Window(col, row, window.width, window.height)
        return rasterio.windows.transform(offset, self.image.info.transform)

    def close(self) -> None:
        """Close the files; reading again opens them again."""
        self.image.close()
        if self._mask is not None:
            self._mask.close()

    def _absolute(self, window: Window) -> tuple[Window, tuple[slice, slice]]:
        """Clip to the scene: its neighbours in the same file may belong to another split."""
        height, width = self.shape
        top, left = min(max(window.row, 0), height), min(max(window.col, 0), width)
        bottom = max(min(window.row + window.height, height), top)
        right = max(min(window.col + window.width, width), left)
        inner = Window(top + self._origin.row, left + self._origin.col, bottom - top, right - left)
        return inner, (
            slice(top - window.row, bottom - window.row),
            slice(left - window.col, right - window.col),
        )

    def read(self, window: Window | tuple[int, int, int, int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read image values (C, h, w) and where they are valid (h, w), as `ImageReader.read` does."""
        window = Window(*window)
        inner, place = self._absolute(window)
        if (inner.height, inner.width) == (window.height, window.width):
            return self.image.read(inner)
        data = np.zeros((len(self.image.bands), window.height, window.width), dtype=self.image.info.dtype)
        valid = np.zeros((window.height, window.width), dtype=bool)
        if inner.height and inner.width:
            data[:, place[0], place[1]], valid[place] = self.image.read(inner)
        return data, valid

    def read_labels(self, window: Window | tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """Read class indices, shape (h, w); `IGNORE_INDEX` outside the scene and where the mask has no class.

        Raises:
            DataError: If the scene has no labels, or they are not readable with the label map.
        """
        if self._mask is None:
            raise DataError(f"{self.scene.image}: labels are needed, but scene {self.scene.id} has no mask.")
        window = Window(*window)
        inner, place = self._absolute(window)
        labels = np.full((window.height, window.width), IGNORE_INDEX, dtype=np.uint8)
        if inner.height and inner.width and self.image.resamples and not self._mask_resampled:
            part, rows, cols = self.image.nearest(inner)
            labels[place] = self._mask.read(part)[np.ix_(rows, cols)]
        elif inner.height and inner.width:
            labels[place] = self._mask.read(inner)
        return labels
