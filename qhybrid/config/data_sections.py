"""The section `data` of a recipe: images, labels, and how patches are taken from them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, field_validator, model_validator

from qhybrid.config.label_values import ambiguous_values, checked_label_value
from qhybrid.config.strict import GrowingSection, StrictModel

LabelValue = Annotated[int | str, BeforeValidator(checked_label_value)]


class ClassConfig(StrictModel):
    """One class of the label map.

    Attributes:
        name: What reports call it.
        values: What stands for it in the label files; several may be merged into one class. Numbers; ranges
            of numbers with both ends, as "0-127", or open ones, as ">=0.5"; colours of RGB masks and of
            palettes, as "#ffff00"; text of the attribute of vector labels. Required, but for the classes
            that `data.vector` names.
        color: Colour of the class in maps and pictures, as `#rrggbb`.
    """

    name: str = Field(min_length=1)
    values: tuple[LabelValue, ...] = ()
    color: str = Field(pattern=r"^#[0-9a-fA-F]{6}$")


class VectorConfig(StrictModel):
    """How polygons (GeoJSON, GeoPackage, Shapefile, FlatGeobuf) become classes.

    A pixel has the class of the polygon that its centre is in; where polygons overlap, of the last one in
    the file.

    Attributes:
        attribute: The attribute whose value is looked up in the classes' `values`; polygons without a value
            are ground without a label. Either this or `polygons` is required.
        polygons: Name of the class that all polygons stand for.
        layer: The layer; the only one if absent.
        background: Name of the class of ground outside all polygons; absent: that ground has no label.
    """

    attribute: str | None = Field(None, min_length=1)
    polygons: str | None = None
    layer: str | None = None
    background: str | None = None

    @model_validator(mode="after")
    def _one_meaning(self) -> VectorConfig:
        if (self.attribute is None) == (self.polygons is None):
            raise ValueError("give either `attribute`, or one class as `polygons`")
        return self


class AugmentationConfig(StrictModel):
    """Random changes of training patches; each amount of 0 (or false) switches its change off.

    Attributes:
        flip: Mirror left-right and up-down, each with probability 1/2.
        rotate90: Rotate by a multiple of 90 degrees.
        rotate_degrees: Rotate by up to this angle, in degrees.
        scale: Zoom by up to this fraction in or out.
        shift: Move by up to this fraction of the height and of the width.
        brightness: Add up to this fraction of the value range to all bands.
        contrast: Multiply all bands by a factor of up to 1 +- this.
        band_gain: Multiply each band by its own factor of up to 1 +- this.
        noise: Standard deviation of Gaussian noise, as a fraction of the value range.
        blur: Probability of a Gaussian 3 x 3 blur.
    """

    flip: bool = True
    rotate90: bool = True
    rotate_degrees: float = Field(0.0, ge=0, le=180)
    scale: float = Field(0.0, ge=0, lt=1)
    shift: float = Field(0.0, ge=0, lt=1)
    brightness: float = Field(0.1, ge=0, le=1)
    contrast: float = Field(0.2, ge=0, lt=1)
    band_gain: float = Field(0.05, ge=0, lt=1)
    noise: float = Field(0.01, ge=0, le=1)
    blur: float = Field(0.0, ge=0, le=1)


class DataConfig(GrowingSection):
    """Which images, which labels, and how patches are taken from them.

    Attributes:
        dataset: Name of a registered data set (`qhybrid data list`).
        root: The data set's folder, relative to the data root (`--data-root` or QHYBRID_DATA).
        options: The data set's own keys.
        folds: For scenes: forget the data set's own splits and divide all of its scenes into this many folds
            by location, so that what overlaps is in one fold. Absent: the data set's own splits.
        fold: Which fold is the test split, from 1; the next one is the validation split, the others train.
        bands: 1-based band numbers to read, in this order; all if absent, unless one is alpha.
        classes: The label map; a data set with a fixed label map supplies its own when this is absent.
        ignore_values: Mask values that count neither in loss nor in metrics; written as those of classes.
        color_tolerance: How much each channel (0 to 255) of a coloured mask may differ from a class's colour;
            of several such classes a pixel has the nearest (red, green and blue as coordinates), of equally
            near ones the first. 0 is for exact colours; JPEG changes colours and needs more.
        fit_masks: Bring masks of another size or grid to the grid of their images while they are read, by
            the nearest pixel: by coordinates and CRS where both files have them, else by size. Absent: such
            masks are errors.
        vector: How polygons become classes, for labels in vector files.
        nodata: Image value that means "no data"; absent: what the file says.
        scale: What the numbers in the image files are multiplied with, in place of the files' own scale and
            offset. Absent: scenes are read in the encoding of the first training scene; what files say of
            scale and offset is applied where it differs, and other encodings are errors. 1 takes all numbers
            as they are, and other encodings are warnings.
        resolution: Metres a pixel that images are resampled to while they are read (mean of pixels, or
            interpolation between them), masks to the nearest pixel; maps have these pixels too. Absent: as
            they are, with a warning where pixels differ from training's by more than 1.5 times.
        shift_warning: Distance of a scene from the training split above which it is warned of: shift of a
            band's mean in standard deviations m, and logarithm c of the ratio of the standard deviations, as
            sqrt(m^2 + c^2). 0: none is.
        patch_size: Side of training patches and prediction windows, in pixels.
        patches_per_epoch: Random training patches in one epoch.
        class_sampling: Fraction of the training patches that are placed on a class: it is drawn evenly from
            the classes that occur, then one of its pixels, then a patch around that. So rare classes are
            seen more often. 0 places all of them at random.
        augmentation: Random changes of training patches. For data sets of whole images all of them are off
            unless given.
        workers: Processes that read patches; 0 reads in the training process.
        cache_mb: Decoded scenes kept in memory by each reader, in MiB.
    """

    later_keys: ClassVar[tuple[str, ...]] = (
        "color_tolerance",
        "fit_masks",
        "vector",
        "folds",
        "fold",
        "class_sampling",
    )

    dataset: str
    root: str = "."
    options: dict[str, Any] = Field(default_factory=dict)
    folds: int | None = Field(None, ge=3)
    fold: int = Field(1, ge=1)
    bands: tuple[int, ...] | None = None
    classes: tuple[ClassConfig, ...] | None = None
    ignore_values: tuple[LabelValue, ...] = ()
    color_tolerance: int = Field(0, ge=0, le=255)
    fit_masks: bool = False
    vector: VectorConfig | None = None
    nodata: float | None = None
    scale: float | None = Field(None, gt=0)
    resolution: float | None = Field(None, gt=0)
    shift_warning: float = Field(2.0, ge=0)
    patch_size: int = Field(128, ge=16)
    patches_per_epoch: int = Field(1024, ge=1)
    class_sampling: float = Field(0.0, ge=0, le=1)
    augmentation: AugmentationConfig = AugmentationConfig()
    workers: int = Field(0, ge=0)
    cache_mb: int = Field(512, ge=0)

    @field_validator("bands")
    @classmethod
    def _bands_count_from_one(cls, bands: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if bands is not None and (not bands or min(bands) < 1):
            raise ValueError("band numbers count from 1 and at least one is needed")
        return bands

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> DataConfig:
        if self.folds is None and self.fold != 1:
            raise ValueError("`fold` needs `folds`, their number")
        if self.folds is not None and self.fold > self.folds:
            raise ValueError(f"`fold` ({self.fold}) must be 1 to `folds` ({self.folds})")
        return self

    @model_validator(mode="after")
    def _class_values_are_distinct(self) -> DataConfig:
        groups = [entry.values for entry in self.classes or ()]
        twice = ambiguous_values([*groups, self.ignore_values])
        if twice:
            raise ValueError(f"mask value(s) {twice} stand for more than one class")
        names = [entry.name for entry in self.classes or ()]
        if len(set(names)) < len(names):
            raise ValueError(f"class names must differ, but are {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _classes_have_values(self) -> DataConfig:
        vector = self.vector
        named = () if vector is None else tuple(filter(None, (vector.polygons, vector.background)))
        classes = {entry.name: entry for entry in self.classes or ()}
        missing = [name for name in named if self.classes is not None and name not in classes]
        if missing:
            raise ValueError(f"`vector` names class {missing[0]!r}, but the classes are {', '.join(classes)}")
        for index, entry in enumerate(self.classes or ()):
            if not entry.values and entry.name not in named:
                raise ValueError(
                    f"`data.classes.{index}.values` must say what stands for class {entry.name!r} in "
                    "label files, but is empty"
                )
        return self
