"""A fixed quantum filter in front of a classifier, which a data set needs to go through only once."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from qhybrid.engines.base import Engine
from qhybrid.layers import Quanvolution
from qhybrid.layers.controls import RawProducts
from qhybrid.models.circuit_part import circuit_spec, named_circuit, near_square
from qhybrid.models.classifier_keys import ClassifierOptions, FilterPart, Shape
from qhybrid.models.classifier_parts import CheckedImages


class FilterOptions(ClassifierOptions):
    """Keys of the fixed filter.

    Attributes:
        filter: Gates: `eq10` is the paper's equation 10, `random_layers` the template its code calls.
        filter_layers: Layers of the circuit.
        filter_angle_range: Smallest and largest random angle, radians.
        filter_seed: Seed of the angles.
        filter_structure_seed: Seed of the gates of `random_layers`.
        filter_patch: Height and width of a patch; its pixels are the qubits.
        filter_stride: Pixels from one patch to the next.
    """

    filter: Literal["eq10", "random_layers"] = "eq10"
    filter_layers: int = Field(1, ge=0)
    filter_angle_range: tuple[float, float] = (0.0, 2 * math.pi)
    filter_seed: int = Field(0, ge=0)
    filter_structure_seed: int = Field(42, ge=0)
    filter_patch: tuple[int, int] = (2, 2)
    filter_stride: int = Field(2, ge=1)

    @model_validator(mode="after")
    def _range_is_one(self) -> FilterOptions:
        low, high = self.filter_angle_range
        if low > high:
            raise ValueError(
                f"`filter_angle_range` must be the smallest and the largest angle in radians, but is "
                f"({low:g}, {high:g})"
            )
        return self

    @property
    def filter_part(self) -> FilterPart:
        """The circuit `qcq_filter` with these keys."""
        circuit = named_circuit(
            "qcq_filter",
            num_qubits=self.filter_patch[0] * self.filter_patch[1],
            layers=self.filter_layers,
            filter=self.filter,
            angle_range=list(self.filter_angle_range),
            seed=self.filter_seed,
            structure_seed=self.filter_structure_seed,
        )
        return FilterPart(circuit=circuit, patch=self.filter_patch, stride=self.filter_stride)

    @model_validator(mode="after")
    def _patch_fits(self) -> FilterOptions:
        if min(self.filter_patch) < 1 or any(
            patch > size for patch, size in zip(self.filter_patch, self.image_size, strict=True)
        ):
            raise ValueError(
                f"`filter_patch` must be at least 1 x 1 and at most the image, {self.image_size[0]} x "
                f"{self.image_size[1]}, but is {self.filter_patch[0]} x {self.filter_patch[1]}"
            )
        return self


class FixedFilterModel(nn.Module):
    """logits = head(quanvolution(image)), the quanvolution not trained.

    Attributes:
        quanvolution: The fixed filter.
        head: Everything behind it.
    """

    def __init__(self, quanvolution: Quanvolution, head: nn.Module, image_shape: Shape) -> None:
        """Put a head on a filter."""
        super().__init__()
        self.check = CheckedImages(image_shape)
        self.quanvolution = quanvolution
        self.head = head

    def fixed_features(self, images: Tensor) -> Tensor:
        """Return the filter's features (B, C', H', W') of images (B, C, H, W) with pixels in [0, 1].

        They do not change while the model trains; `qhybrid.layers.cached_features(model.quanvolution, ...)`
        gives the same from disk.

        Raises:
            ConfigError: If the images have another shape than the model was built for.
        """
        features: Tensor = self.quanvolution(self.check(images))
        return features

    def forward_features(self, features: Tensor) -> Tensor:
        """Map the filter's features to logits (B, K)."""
        logits: Tensor = self.head(features)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) with pixels in [0, 1] to logits (B, K)."""
        return self.forward_features(self.fixed_features(images))


def build_filter(options: FilterPart, shape: Shape, engine: Engine | None) -> tuple[Quanvolution, Shape]:
    """Return the filter that the keys describe, and the shape of its features for an image of `shape`."""
    if options.circuit is None:
        patch = options.patch or (2, 2)
        classical = RawProducts(patch[0] * patch[1])
        layer = Quanvolution(classical, None, patch, options.stride)
    else:
        spec = circuit_spec(options.circuit)
        layer = Quanvolution(spec, engine, options.patch or near_square(spec.num_inputs), options.stride)
    return layer, layer.output_shape(*shape)
