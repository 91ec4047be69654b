"""Per-band statistics of the training scenes, streamed by windows, and standardisation with them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.config import DataConfig
from qhybrid.data.classes import IGNORE_INDEX, ClassMap
from qhybrid.data.contract import InputContract, ReadOptions
from qhybrid.data.raster import Window
from qhybrid.data.scenes import Scene, SceneDataset, SceneReader
from qhybrid.errors import DataError

BLOCK_PIXELS = 1 << 21
"""Pixels read at once: blocks are whole rows, so that strips and tiles are decoded once."""
LARGEST_SAMPLE = 1 << 21
"""Values of each band that percentiles of 32-bit and floating-point rasters are taken from."""
LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5
_FILLS = np.array([9999, 99_999, 999_999, 32_767, 32_768, 1e20, 9.96921e36, 1e30, 3.4028235e38])
"""Amounts of the numbers that programs write where they have no data."""


@dataclass(frozen=True)
class BandStatistics:
    """Statistics of the raw values of valid pixels, one entry a band in the order of `bands`.

    Attributes:
        bands: 1-based numbers of the bands in the files.
        mean: Means.
        std: Standard deviations (population).
        low: 0.5th percentiles.
        high: 99.5th percentiles.
        pixels: Number of valid pixels.
        pixels_per_class: Labelled valid pixels of each class; empty if labels were not counted.
        contract: What the scenes were read as, which further scenes of the same model are read for; None
            where it is not known (`contract_of`).
    """

    bands: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    pixels: int
    pixels_per_class: tuple[int, ...] = ()
    contract: InputContract | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        lengths = {len(self.bands), len(self.mean), len(self.std), len(self.low), len(self.high)}
        numbers = np.array([*self.mean, *self.std, *self.low, *self.high])
        if len(lengths) != 1 or not self.bands or not np.isfinite(numbers).all():
            raise DataError("Band statistics must be one finite number a band for mean, std, low and high.")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> BandStatistics:
        """Rebuild statistics from `to_dict`.

        Raises:
            DataError: If the mapping is not one that `to_dict` writes.
        """
        try:
            floats: dict[str, Any] = {
                key: tuple(float(value) for value in content[key]) for key in ("mean", "std", "low", "high")
            }
            return cls(
                bands=tuple(int(band) for band in content["bands"]),
                pixels=int(content["pixels"]),
                pixels_per_class=tuple(int(count) for count in content["pixels_per_class"]),
                **floats,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"Not band statistics: {error!r}.") from error

    def to_dict(self) -> dict[str, Any]:
        """Return the statistics as plain lists and numbers, for JSON."""
        return {
            "bands": list(self.bands),
            "mean": list(self.mean),
            "std": list(self.std),
            "low": list(self.low),
            "high": list(self.high),
            "pixels": self.pixels,
            "pixels_per_class": list(self.pixels_per_class),
        }

    def standardise(self, raw: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return (raw - mean) / std, and 0 where a pixel is not valid; a constant band becomes 0.

        Args:
            raw: Raw values, shape (C, h, w).
            valid: Which pixels hold data, shape (h, w).

        Raises:
            DataError: If the number of bands differs.
        """
        if len(raw) != len(self.bands):
            raise DataError(f"The statistics are of {len(self.bands)} band(s), but the image has {len(raw)}.")
        std = np.array([value if value > 0 else np.inf for value in self.std])
        # 16-bit and smaller values are exact in float32; larger ones could lose their differences from the
        # mean.
        wide = raw.dtype.itemsize > 2 and raw.dtype != np.float32
        work: NDArray[Any] = raw.astype(np.float64 if wide else np.float32)
        work -= np.array(self.mean, dtype=work.dtype)[:, None, None]
        work *= (1.0 / std).astype(work.dtype)[:, None, None]
        result = work.astype(np.float32, copy=False)
        if not valid.all():
            result[:, ~valid] = 0.0
        return result


class _BandAccumulator:
    """Mean and variance by merging blocks (Chan et al.), percentiles from a histogram or an even sample."""

    def __init__(self, bands: int, dtype: str, stride: int) -> None:
        self.count = 0
        self.mean = np.zeros(bands)
        self.squares = np.zeros(bands)
        self._lowest, self._highest = np.full(bands, np.inf), np.full(bands, -np.inf)
        kind = np.dtype(dtype)
        self._offset = int(np.iinfo(kind).min) if kind.kind in "ui" and kind.itemsize <= 2 else None
        size = 1 << (8 * kind.itemsize) if self._offset is not None else 0
        self._histogram = np.zeros((bands, size), dtype=np.int64)
        self._samples: list[NDArray[Any]] = []
        self._stride = stride

    def add(self, values: NDArray[Any]) -> None:
        """Add valid values, shape (C, n)."""
        count = values.shape[1]
        if count == 0:
            return
        mean = values.mean(axis=1, dtype=np.float64)
        squares = ((values - mean[:, None]) ** 2).sum(axis=1)
        delta, total = mean - self.mean, self.count + count
        self.mean = self.mean + delta * (count / total)
        self.squares = self.squares + squares + delta**2 * (self.count * count / total)
        self._lowest = np.minimum(self._lowest, values.min(axis=1))
        self._highest = np.maximum(self._highest, values.max(axis=1))
        if self._offset is None:
            self._samples.append(values[:, self.count % self._stride :: self._stride].astype(np.float64))
        else:
            for band, row in enumerate(values):
                shifted = row if self._offset == 0 else row.astype(np.int64) - self._offset
                self._histogram[band] += np.bincount(shifted, minlength=self._histogram.shape[1])
        self.count = total

    def std(self) -> list[float]:
        """Return population standard deviations; of equal values 0, whatever rounding left of their mean."""
        spread = np.sqrt(self.squares / self.count)
        return [float(value) for value in np.where(self._lowest == self._highest, 0.0, spread)]

    def fills(self) -> dict[int, float]:
        """Return the lowest or highest value of bands, by position, where it is a usual number for no data.

        Above 0 only the huge ones: 9999 and 32767 are numbers of bands as others are.
        """
        found: dict[int, float] = {}
        for place, ends in enumerate(zip(self._lowest.tolist(), self._highest.tolist())):
            for value in ends:
                known = np.isclose(abs(value), _FILLS, rtol=1e-6, atol=0).any()
                if known and (value < 0 or value > 1e19):
                    found.setdefault(place, value)
        return found

    def percentile(self, percent: float) -> list[float]:
        if self._offset is None:
            return [float(v) for v in np.percentile(np.concatenate(self._samples, axis=1), percent, axis=1)]
        cumulative = np.cumsum(self._histogram, axis=1)
        rank = percent / 100 * self.count
        return [float(np.searchsorted(row, rank) + self._offset) for row in cumulative]


def _blocks(height: int, width: int) -> list[Window]:
    rows = max(1, min(height, BLOCK_PIXELS // width))
    return [Window(top, 0, min(rows, height - top), width) for top in range(0, height, rows)]


def _common_type(scenes: Sequence[Scene], contract: InputContract) -> str:
    """Return a number type that holds what is read of all scenes, each of which is matched on the way."""
    reader = SceneReader(scenes[0], None, contract)
    types = set()
    for scene in scenes:
        reader.move_to(scene)
        types.add(np.dtype(reader.image.info.dtype))
    reader.close()
    return str(np.result_type(*types))


def _warn_of_fills(scenes: Sequence[Scene], bands: Sequence[int], fills: Mapping[int, float]) -> None:
    """Warn of values that very likely mean "no data", and count as data."""
    if not fills:
        return
    value = next(iter(fills.values()))
    warnings.warn(
        f"{scenes[0].image}{f' and {len(scenes) - 1} more scene(s)' if scenes[1:] else ''}: band(s) "
        f"{', '.join(str(bands[one]) for one in fills)} reach to {value:.8g}, a usual number for no data, "
        "which the files do not say; it counts as data in mean and deviation. Fix: set `data.nodata`, or "
        "write it into the files (gdal_edit.py -a_nodata).",
        stacklevel=3,
    )


def compute_statistics(
    scenes: Sequence[Scene],
    bands: Sequence[int] | None = None,
    classes: ClassMap | None = None,
    nodata: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    contract: InputContract | None = None,
) -> BandStatistics:
    """Compute statistics of scenes in one pass; memory does not grow with their number or size.

    This reads every pixel and label once, so damaged files and unknown mask values show before training
    starts.

    Args:
        scenes: The training scenes.
        bands: 1-based band numbers of the first scene; absent: all that hold data.
        classes: The label map; absent: labels are not counted.
        nodata: Image value that means "no data"; absent: what each file says.
        progress: Called with (scenes done, scenes in all).
        contract: What scenes are read for, in place of `bands` and `nodata`; absent: what the first scene
            makes (`InputContract.of_scene`).

    Returns:
        The statistics, with the contract that they complete.

    Raises:
        DataError: If there is no valid pixel, a file is unusable, or scenes do not fit together.
    """
    if not scenes:
        raise DataError("Statistics need at least one scene, but the split is empty.")
    if contract is None:
        contract = InputContract.of_scene(scenes[0].image, bands, ReadOptions(nodata=nodata))
    chosen, dtype = contract.numbers, _common_type(scenes, contract)
    reader = SceneReader(scenes[0], classes, contract)
    area = reader.shape[0] * reader.shape[1] * len(scenes)
    accumulator = _BandAccumulator(len(chosen), dtype, stride=max(1, area // LARGEST_SAMPLE))
    counts = np.zeros(classes.num_classes if classes else 0, dtype=np.int64)
    for done, scene in enumerate(scenes, start=1):
        reader.move_to(scene)
        for window in _blocks(*reader.shape):
            raw, valid = reader.read(window)
            values = raw.reshape(len(chosen), -1) if valid.all() else raw[:, valid]
            accumulator.add(values.astype(dtype, copy=False))
            if classes is not None and scene.mask is not None:
                labels = reader.read_labels(window)
                counts += np.bincount(labels[valid], minlength=IGNORE_INDEX + 1)[: classes.num_classes]
        if progress is not None:
            progress(done, len(scenes))
    reader.close()
    if accumulator.count == 0:
        raise DataError(
            f"{scenes[0].image} and {len(scenes) - 1} more scene(s): at least one pixel must hold data, but "
            "all are nodata. Fix: check `data.nodata` and the files' masks."
        )
    _warn_of_fills(scenes, chosen, accumulator.fills())
    found = BandStatistics(
        bands=chosen,
        mean=tuple(float(value) for value in accumulator.mean),
        std=tuple(accumulator.std()),
        low=tuple(accumulator.percentile(LOW_PERCENTILE)),
        high=tuple(accumulator.percentile(HIGH_PERCENTILE)),
        pixels=accumulator.count,
        pixels_per_class=tuple(int(count) for count in counts),
    )
    return replace(found, contract=contract.with_statistics(found.mean, found.std, found.low, found.high))


def first_contract(dataset: SceneDataset, config: DataConfig) -> InputContract:
    """Return the contract that the first training scene of a recipe's data set makes.

    Raises:
        DataError: If the scene is unusable.
    """
    return InputContract.of_scene(dataset.scenes("train")[0].image, config.bands, ReadOptions.of(config))


def contract_of(
    statistics: BandStatistics, config: DataConfig, bands: Sequence[int] | None = None
) -> InputContract:
    """Return what scenes are read for, of a model with these statistics.

    Args:
        statistics: Of the training split.
        config: The section `data` of the run's recipe; used where the statistics know no contract.
        bands: 1-based band numbers of the model, where they are others than those of the statistics.
    """
    if statistics.contract is not None:
        return statistics.contract
    every = config.bands is None
    return InputContract.unknown(bands or statistics.bands, statistics, every, ReadOptions.of(config))


def with_contract(
    statistics: Mapping[str, Any],
    contract: Mapping[str, Any] | None,
    config: DataConfig,
    bands: Sequence[int],
    source: Path,
) -> BandStatistics:
    """Return the statistics that a run has kept, with its contract; a run without one is warned of.

    Args:
        statistics: As `BandStatistics.to_dict` writes them.
        contract: As `InputContract.to_dict` writes it; None of runs before it was kept.
        config: The section `data` of the run's recipe.
        bands: 1-based band numbers of the model.
        source: The file that they come from, for messages.

    Raises:
        DataError: If one of the mappings is damaged.
    """
    found = BandStatistics.from_dict(statistics)
    if contract is None:
        warnings.warn(
            f"{source} is of an earlier version and does not say what the model was trained on (names, "
            "types, scale and offset of bands, pixel size): scenes are judged by their values alone.",
            stacklevel=3,
        )
        return replace(found, contract=contract_of(found, config, bands))
    try:
        return replace(found, contract=InputContract.from_dict(contract, ReadOptions.of(config)))
    except DataError as error:
        raise DataError(f"{source}: key `input` is damaged: {error} Fix: start a new run.") from error
