"""The input contract: what a model was trained on, and how the files that it meets are read for it.

One `InputContract` comes from the training scenes and is kept in meta.json. Whatever reads a scene for a
model asks it for the `Reading` of the file, once a file: bands by name, numbers by the file's own scale and
offset, one pixel size. A file that cannot be what the model was trained on is an error; one that only looks
different is read, with a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from qhybrid.config import DataConfig
from qhybrid.data.contract_bands import BandInput, check_given, check_no_mask, match_bands, swapped_ends
from qhybrid.data.contract_common import common_offset, doubt, other_encoding
from qhybrid.data.contract_nodata import unsaid_nodata, unsaid_note
from qhybrid.data.contract_range import (
    Conversion,
    Floats,
    SceneSample,
    check_numbers,
    conversion_of_file,
    foreign_band,
    largest_shift,
    likely_factor,
    sample_image,
)
from qhybrid.data.contract_reading import Reading, resampled_size
from qhybrid.data.raster import RasterInfo, check_bands, raster_info
from qhybrid.data.raster_file import BandInfo, as_picture, several_pages
from qhybrid.errors import DataError

_FAR_PIXEL = 1.5
"""How many times larger or smaller than in training pixels may be without a warning."""
_WARNINGS = 5
"""Warnings of one kind about scenes of one model, before the rest is left out."""
_WORSE = 1.5
"""How many times further than those of the warnings before a scene must be for one more."""


@dataclass(frozen=True)
class ReadOptions:
    """What a recipe, or a user, decides about reading.

    Attributes:
        nodata: Value that means "no data" in every band; None: what each file says.
        scale: What numbers are multiplied with, in place of what the files say of scale and offset.
        resolution: Metres a pixel that images are resampled to; None: as they are.
        shift_warning: Distance of a scene's values from training's (`largest_shift`) that is warned of; 0:
            none is.
        bands: Numbers of a scene's bands, in the model's order, in place of what names say.
        sure: `scale` was chosen for these very scenes, or is 1 in the recipe: doubts about their numbers are
            warnings, not errors.
    """

    nodata: float | None = None
    scale: float | None = None
    resolution: float | None = None
    shift_warning: float = 2.0
    bands: tuple[int, ...] | None = None
    sure: bool = False

    @classmethod
    def of(cls, config: DataConfig) -> Self:
        """Return what a recipe's section `data` says."""
        sure = config.scale == 1
        return cls(config.nodata, config.scale, config.resolution, config.shift_warning, sure=sure)


@dataclass(frozen=True)
class InputContract:
    """What a model was trained on.

    Attributes:
        bands: Its bands, in its order.
        pixel_size: Side of a training pixel in metres, as read; None if it is not known.
        every: It was trained on all bands of its scenes.
        known: Whether names, types, scales and pixel size are known: not of runs before there was a contract.
        one_scene: The statistics are those of a sample of the first training scene, before all were read.
        options: What the recipe or the user decides.
    """

    bands: tuple[BandInput, ...]
    pixel_size: float | None = None
    every: bool = True
    known: bool = True
    one_scene: bool = False
    options: ReadOptions = ReadOptions()
    _readings: dict[Any, Reading] = field(default_factory=dict, init=False, compare=False, repr=False)
    _warned: dict[str, int] = field(default_factory=dict, init=False, compare=False, repr=False)
    _worst: dict[str, float] = field(default_factory=dict, init=False, compare=False, repr=False)

    @classmethod
    def of_scene(
        cls, image: str | Path, bands: Sequence[int] | None = None, options: ReadOptions | None = None
    ) -> Self:
        """Return the contract that the first training scene makes; its numbers are what the model will see.

        Args:
            image: The scene's raster file.
            bands: 1-based numbers of its bands; all that hold data if absent.
            options: What the recipe decides.

        Raises:
            DataError: If the file is unusable, or `data.resolution` is given and its pixel size is not known.
        """
        options = options or ReadOptions()
        info = as_picture(raster_info(image))
        numbers = check_bands(info, bands)
        gain = (options.scale,) * len(numbers) if options.scale not in (None, 1) else None
        size = resampled_size(info, options.resolution)
        reading = Reading(numbers, options.nodata, gain, size=size)
        sample = sample_image(image, reading)
        if gain is not None:
            sample = sample.converted(np.array(gain), np.zeros(len(gain)))
        own = [info.bands[number - 1] for number in numbers]
        check_numbers(image, own)
        described = tuple(
            BandInput(
                *(number, band.description, band.color, band.dtype, band.scale, band.offset, band.nodata),
                inverted=band.inverted,
            )
            for number, band in zip(numbers, own)
        )
        pixel_size = info.pixel_size if size is None else options.resolution
        contract = cls(described, pixel_size, bands is None, one_scene=True, options=options)
        contract = contract.with_statistics(sample.mean, sample.std, sample.low, sample.high)
        contract = replace(contract, one_scene=True)
        contract._readings[_key(image)] = reading
        contract._check_pages(info)
        return contract

    @classmethod
    def unknown(cls, bands: Sequence[int], statistics: Any, every: bool, options: ReadOptions) -> Self:
        """Return the contract of a run that did not keep one: numbers of bands and their statistics.

        Args:
            bands: 1-based numbers, in the model's order.
            statistics: Has `mean`, `std`, `low` and `high` of each band, as `BandStatistics`.
            every: The model was trained on all bands of its scenes.
            options: What the recipe decides.
        """
        numbered = tuple(BandInput(number, inverted=None) for number in bands)
        contract = cls(numbered, None, every, known=False, options=options)
        return contract.with_statistics(statistics.mean, statistics.std, statistics.low, statistics.high)

    @property
    def numbers(self) -> tuple[int, ...]:
        """1-based numbers of the bands in the first training scene."""
        return tuple(band.number for band in self.bands)

    def with_statistics(self, mean: Any, std: Any, low: Any, high: Any) -> Self:
        """Return the contract with statistics of all training pixels, one number a band each.

        Files that have been matched already are read as before.
        """
        bands = tuple(
            replace(band, mean=float(a), std=float(b), low=float(c), high=float(d))
            for band, a, b, c, d in zip(self.bands, mean, std, low, high, strict=True)
        )
        contract = replace(self, bands=bands, one_scene=False)
        contract._readings.update(self._readings)
        return contract

    def with_options(self, **options: Any) -> Self:
        """Return the contract with other `ReadOptions`, given by name; files are matched anew.

        A scale that is given here is meant for the scenes that are read from now on (`sure`).
        """
        if options.get("scale") is not None:
            options = {"sure": True, **options}
        return replace(self, options=replace(self.options, **options))

    def to_dict(self) -> dict[str, Any]:
        """Return the contract as plain values, for JSON; options of the user only where given."""
        given = {
            "bands": self.options.bands,
            "scale": self.options.scale,
            "resolution": self.options.resolution,
        }
        content: dict[str, Any] = {
            "known": self.known,
            "bands": [band.to_dict() for band in self.bands],
            "every_band": self.every,
            "pixel_size_m": self.pixel_size,
        }
        read = {key: list(v) if isinstance(v, tuple) else v for key, v in given.items() if v is not None}
        return {**content, "read_with": read} if read else content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], options: ReadOptions) -> Self:
        """Rebuild a contract from `to_dict`.

        Raises:
            DataError: If the mapping is not one that `to_dict` writes.
        """
        try:
            bands = tuple(BandInput.from_dict(band) for band in content["bands"])
            size = content["pixel_size_m"]
            return cls(
                bands,
                None if size is None else float(size),
                bool(content["every_band"]),
                bool(content["known"]),
                options=options,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"Not an input contract: {error!r}.") from error

    def reading(self, image: str | Path) -> Reading:
        """Return how a file is read for the model; each file is looked at once.

        Raises:
            DataError: If it is unusable, or cannot be what the model was trained on.
        """
        key = _key(image)
        if key not in self._readings:
            self._readings[key] = self._match(image)
        return self._readings[key]

    def _match(self, image: str | Path) -> Reading:
        info = raster_info(image)
        # Before there was a contract the numbers of a colour table were what a model of one band saw.
        expands = self.known or len(self.bands) > 1 or info.count > 1
        picture = as_picture(info) if expands else info
        if self.options.bands is not None:
            numbers = check_given(picture, self.options.bands, self.bands)
        else:
            numbers = match_bands(picture, self.bands, self.every, self.known)
        self._check_pages(info)
        size = resampled_size(picture, self.options.resolution)
        if size is None:
            self._check_pixel_size(picture)
        reading = Reading(numbers, self.options.nodata, picture=expands, size=size)
        return self._converted(image, picture, reading)

    def _converted(self, image: str | Path, picture: RasterInfo, reading: Reading) -> Reading:
        """Return the reading with what converts numbers, after a look at the values."""
        own = [picture.bands[number - 1] for number in reading.bands or ()]
        unsaid = None if self.options.nodata is not None else unsaid_nodata(picture, own, self.bands)
        sample = sample_image(image, reading, unsaid)
        note = unsaid_note(image, sample.unsaid, unsaid)
        if note is not None:
            self._warn("nodata", note, sample.unsaid)
        given = self.options.scale
        sign, base = self._black_to_white(image, own)
        sample = sample.converted(sign, base)
        found: Conversion | None = None
        if given is not None:
            found = np.full(len(own), given), np.zeros(len(own)), None
        elif self.known:
            found = conversion_of_file(own, self.bands, sample, image)
        elif any((band.scale, band.offset) != (1, 0) for band in own):
            self._warn(
                "scale",
                f"{image}: its scale and offset are not used, because the run does not say which ones its "
                "training scenes had.",
            )
        if found is not None:
            gain, shift, note = found
            sample = sample.converted(gain, shift)
            sign, base = sign * gain, base * gain + shift
            if note is not None:
                self._warn("scale", f"{image}: {note}.")
        if (sign != 1).any() or base.any():
            reading = replace(reading, gain=tuple(sign.tolist()), shift=tuple(base.tolist()))
        if not self.options.bands:
            check_no_mask(picture, reading.bands or (), self.bands, sample.extremes)
        foreign = foreign_band(
            own, self.bands, sample, self.one_scene, found is not None and given is None, given is not None
        )
        # Both may use all there is; runs before there was a contract do not know their type.
        eight_bits = {one.dtype for one in own} | {band.dtype for band in self.bands} <= {"uint8", None}
        if foreign is None and not eight_bits and (found is None or given is not None):
            why = other_encoding(sample, self.bands, self.one_scene)
            foreign = None if why is None else (0, why)
            if foreign is None and not self.one_scene and given is None:
                self._check_offset(image, sample)
        if foreign is None:
            self._check_shift(image, sample, None if given is not None else doubt(sample, self.bands))
        elif self.options.sure:
            self._warn("range", self._foreign(image, own[foreign[0]].dtype, sample, *foreign))
        else:
            raise DataError(self._foreign(image, own[foreign[0]].dtype, sample, *foreign))
        return reading

    def _black_to_white(self, image: str | Path, own: Sequence[BandInfo]) -> tuple[Floats, Floats]:
        """Return gain and shift that make 0 black or white as in training: v becomes largest - v."""
        gain, shift = np.ones(len(own)), np.zeros(len(own))
        sure, unsure = swapped_ends(own, self.bands)
        if self.options.scale is not None:
            sure, unsure = [], sure + unsure
        for place in sure:
            gain[place], shift[place] = -1, own[place].largest or 0
        if unsure:
            here, there = ("white", "black") if own[unsure[0]].inverted else ("black", "white")
            self._warn(
                "inverted",
                f"{image}: 0 is {here} in it (photometric interpretation), and in training perhaps {there}; "
                "its numbers are taken as they are. Fix: if so, invert them in the file.",
            )
        return gain, shift

    def _check_pages(self, info: RasterInfo) -> None:
        text = several_pages(info)
        if text is not None:
            self._warn("pages", text)

    def _check_pixel_size(self, picture: RasterInfo) -> None:
        here, there = picture.pixel_size, self.pixel_size
        if here is None or there is None or 1 / _FAR_PIXEL <= here / there <= _FAR_PIXEL:
            return
        self._warn(
            "pixel",
            f"{picture.path}: its pixels are {here:.3g} m wide, but those of the training scenes "
            f"{there:.3g} m, so that the model sees all things in another size. Fix: set `data.resolution` "
            f"in a recipe, or give `--resolution {there:.3g}`: images are resampled while they are read.",
        )

    def _check_offset(self, image: str | Path, sample: SceneSample) -> None:
        offset = common_offset(sample, self.bands)
        if offset is not None:
            self._warn(
                "offset",
                f"{image}: its values are {offset:+.4g} against those of training in all bands alike, the "
                "darkest included: an offset, perhaps, that the file does not say (Sentinel-2 since baseline "
                "04.00: 1000). Fix: if so, write it into the file (gdal_edit.py -offset).",
                abs(offset),
            )

    def _check_shift(self, image: str | Path, sample: SceneSample, doubtful: str | None) -> None:
        """Warn of numbers in training's encoding that lie elsewhere: a dark or a cloudy scene."""
        if not sample.pixels or self.one_scene or not self.options.shift_warning:
            return
        place, far = largest_shift(sample, self.bands)
        wrong = "The model may be wrong on such a scene."
        more = "" if doubtful is None else f" {doubtful[0].upper()}{doubtful[1:]}."
        if far > self.options.shift_warning:
            band = self.bands[place]
            self._warn(
                "range",
                f"{image}: its values are far from those of training: band {band.shown} is "
                f"{sample.mean[place]:.4g} +- {sample.std[place]:.3g} here, and {band.mean:.4g} +- "
                f"{band.std:.3g} in training; that is a distance of {far:.1f}, and `data.shift_warning` is "
                f"{self.options.shift_warning:g}.{more} {wrong}",
                far,
            )
        elif more:
            self._warn("range", f"{image}:{more} {wrong}", far)

    def _foreign(self, image: str | Path, dtype: str, sample: SceneSample, place: int, why: str) -> str:
        band = self.bands[place]
        factor = likely_factor(sample, band, place, dtype)
        remedy = (
            "no factor alone converts them; convert the file (gdal_translate -scale -ot)"
            if factor is None
            else f"give the factor that converts them, `--scale {factor}` perhaps (`data.scale` in a recipe)"
        )
        trained = f"{band.dtype}, " if band.dtype else ""
        return (
            f"{image}: values must be encoded as those of the training scenes, but band {band.shown} reaches "
            f"from {sample.low[place]:.4g} to {sample.high[place]:.4g} ({dtype}), and in training from "
            f"{band.low:.4g} to {band.high:.4g} ({trained}0.5 to 99.5 % of the pixels): {why}. Fix: "
            f"{remedy}, or `--scale 1` if they are right as they are; in a set of several encodings, convert "
            "the files or write scale and offset into them (gdal_edit.py -scale -offset)."
        )

    def _warn(self, kind: str, text: str, far: float = 0.0) -> None:
        """Warn of some scenes of a kind, and then of those alone that are much further from training."""
        count = self._warned[kind] = self._warned.get(kind, 0) + 1
        worst = self._worst.get(kind, 0.0)
        if count <= _WARNINGS or far > _WORSE * worst:
            self._worst[kind] = max(far, worst)
            last = count == _WARNINGS
            more = " More of this kind only follow for scenes that differ more." if last else ""
            warnings.warn(text + more, stacklevel=2)


def _key(image: str | Path) -> tuple[Any, ...]:
    """Return what tells a file from another one, and from itself when it has been written anew."""
    try:
        found = Path(image).stat()
    except OSError:  # an address, or missing: reading it says so
        return (str(image),)
    return str(image), found.st_size, found.st_mtime_ns
