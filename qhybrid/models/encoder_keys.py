"""Which pretrained backbone stands in front of a U-Net's bottleneck: its keys, its files, its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from qhybrid.errors import ConfigError
from qhybrid.guidance import FrozenViT, guidance_of
from qhybrid.guidance.pretrained import architecture, find_weights, read_config, weights_hash
from qhybrid.models.circuit_part import PartOptions


class EncoderOptions(PartOptions):
    """A backbone of `transformers` in place of the U-Net's own encoder, with a small neck to its scales.

    A text alone stands for `weights`.

    Attributes:
        weights: Folder with config.json and safetensors weights, in the working directory or below the data
            root (QHYBRID_DATA), or the name of a model on the Hugging Face hub. A run keeps `source` in its
            place, since its own weights hold those of the encoder: it is rebuilt without these files.
        config: The architecture, as in config.json; by default that of `weights`. Without `weights` the
            encoder begins with random ones.
        sha256: Hash of the content of the weights files; filled in. Where it is given, other files are
            refused.
        source: Where a run's encoder came from; filled in.
        layers: Number of the hidden state (0 is the embedding) that each scale is made of, that at full
            resolution first. Default: for patch tokens evenly spaced, the last one deepest; for feature maps
            those of the nearest resolution.
        adapter: How images of any number of bands enter. `inflate` makes the first convolution one of as many
            bands, so that equal bands give what equal red, green and blue gave; `map` learns a 1x1
            convolution to the bands that the encoder knows. With `freeze` these layers are trained
            nevertheless, unless the bands are as many as the encoder knows.
        rgb: Which of the model's bands, from 1, are red, green and blue: they start with these filters.
            Default: three bands are red, green, blue; of any other number each starts with the mean filter.
        values: What images hold; the data set fills it in. `standardised` (scenes: mean 0, deviation 1 over
            the training split, which is what ImageNet's normalisation does to its own images) goes in as it
            is; `zero_to_one` (whole images) is normalised by ImageNet's means and deviations.
        freeze: Keep the pretrained weights. The encoder is always in evaluation mode: no dropout, and batch
            norms with their own statistics.
        learning_rate_factor: Factor on the learning rate for the encoder's weights where they are trained.
        scale: Factor on height and width in front of the encoder: 2 gives four times the patch tokens.
    """

    weights: str | None = None
    config: dict[str, Any] | None = None
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    source: str | None = None
    layers: tuple[int, ...] | None = Field(None, min_length=1)
    adapter: Literal["inflate", "map"] = "inflate"
    rgb: tuple[int, int, int] | None = None
    values: Literal["standardised", "zero_to_one"] = "standardised"
    freeze: bool = True
    learning_rate_factor: float = Field(0.1, gt=0)
    scale: float = Field(1.0, ge=0.25, le=8)

    @model_validator(mode="before")
    @classmethod
    def _weights_alone(cls, content: Any) -> Any:
        return {"weights": content} if isinstance(content, str) else content

    @field_validator("rgb")
    @classmethod
    def _bands_differ(cls, rgb: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if rgb is not None and (min(rgb) < 1 or len(set(rgb)) < 3):
            raise ValueError(f"must be three different band numbers from 1, but is {list(rgb)}")
        return rgb

    @model_validator(mode="after")
    def _complete(self) -> EncoderOptions:
        """Fill in the architecture and the hash of the weights."""
        if self.weights is None and self.config is None:
            raise ValueError("give `weights`, or `config` for random initial weights")
        if self.weights is None and self.source is None and self.freeze:
            raise ValueError("without `weights` the encoder is random, so `freeze` must be false")
        self.__dict__["config"] = architecture(self.config or read_config(self.weights or ""))
        if self.weights is not None:
            found = weights_hash(find_weights(self.weights))
            if self.sha256 is not None and self.sha256 != found:
                raise ValueError(
                    f"the files of `weights: {self.weights}` must have the hash `sha256` {self.sha256}, but "
                    f"have {found}: they have changed. Fix: give the files that were used, or leave out "
                    "`sha256`"
                )
            self.__dict__["sha256"] = found
        return self

    def check_levels(self, levels: int) -> None:
        """Check that there is a layer for each scale of the U-Net.

        Raises:
            ConfigError: If there are more or fewer.
        """
        if self.layers is not None and len(self.layers) != levels:
            raise ConfigError(
                f"Key `encoder.layers` must hold {levels} numbers, one a scale of the U-Net (the last is the "
                f"bottleneck's), but holds {len(self.layers)}."
            )

    def check_bands(self, bands: int) -> None:
        """Check that red, green and blue are among the bands.

        Raises:
            ConfigError: If they are not.
        """
        if self.rgb is not None and max(self.rgb) > bands:
            raise ConfigError(
                f"Key `encoder.rgb` must be band numbers from 1 to {bands}, but is {list(self.rgb)}."
            )


def with_values(section: Mapping[str, Any], values: str) -> dict[str, Any]:
    """Return a model section whose encoder knows what its images hold; one without encoder as it is.

    Args:
        section: `model` of a recipe.
        values: What the data set gives; see `EncoderOptions.values`.

    Raises:
        ConfigError: If the section says something else.
    """
    encoder = _encoder_of(section)
    if values != "standardised" and guidance_of(section) is not None:
        raise ConfigError(
            "Key `model.guidance` is for data sets of scenes, whose token maps are kept by tile, but this "
            "data set holds whole images. Fix: leave it out, or use `model.encoder`."
        )
    if encoder is None:
        return dict(section)
    if encoder.get("values", values) != values:
        raise ConfigError(
            f"Key `model.encoder.values` must be `{values}`, which is what this data set gives, but is "
            f"`{encoder['values']}`. Fix: leave it out."
        )
    return {**section, "encoder": {**encoder, "values": values}}


def kept_model(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resolved model section as a run keeps it: rebuilt without the files of a pretrained encoder.

    Its weights are then those of the run. What has no such encoder stays as it is.
    """
    encoder = _encoder_of(section)
    if encoder is None or encoder.get("weights") is None:
        return dict(section)
    kept = {key: value for key, value in encoder.items() if key != "weights"}
    return {**section, "encoder": {**kept, "source": encoder["weights"]}}


def check_begins(section: Mapping[str, Any]) -> None:
    """Check before data are read that a new training has the pretrained weights that it is to begin with.

    A frozen ViT is tried on a small image.

    Raises:
        ConfigError: If they are missing, or the section is one that an old run keeps: its encoder would be
            random though it came from pretrained weights.
    """
    encoder_hash(section)
    if (guidance := guidance_of(section)) is not None:
        FrozenViT(guidance).check()
    encoder = _encoder_of(section)
    if encoder is not None and encoder.get("source") is not None and encoder.get("weights") is None:
        raise ConfigError(
            f"Key `model.encoder` says that its weights came from {encoder['source']}, as runs keep it, but "
            f"a new training would begin with random ones. Fix: `weights: {encoder['source']}` in place of "
            "`source`."
        )


def _encoder_of(section: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the section `encoder` of a model section; None without one, or if it is of the wrong kind."""
    encoder = section.get("encoder")
    if isinstance(encoder, str):
        return {"weights": encoder}
    return encoder if isinstance(encoder, Mapping) else None


def encoder_hash(section: Mapping[str, Any]) -> str | None:
    """Return the hash of the pretrained encoder that a recipe's model section names; None if it names none.

    It covers the weights, and the architecture where the section does not hold it itself.

    Raises:
        ConfigError: If they cannot be read.
    """
    encoder = _encoder_of(section)
    name = None if encoder is None else encoder.get("weights")
    if encoder is None or name is None:
        return None
    weights = weights_hash(find_weights(str(name)))
    if encoder.get("config") is not None:
        return weights
    described = json.dumps(architecture(read_config(str(name))), sort_keys=True)
    return hashlib.sha256(f"{weights} {described}".encode()).hexdigest()
