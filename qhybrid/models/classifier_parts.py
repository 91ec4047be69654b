"""Parts of the image classifiers: keys, convolutional network, head on an expectation value."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from qhybrid.config import StrictModel
from qhybrid.errors import ConfigError

Shape = tuple[int, int, int]
"""Channels, height, width."""


class ClassifierOptions(StrictModel):
    """Keys of every image classifier.

    Attributes:
        in_channels: Channels of the image.
        num_classes: Classes to tell apart.
        image_size: Height and width of images in pixels.
    """

    in_channels: int = Field(ge=1)
    num_classes: int = Field(ge=2)
    image_size: tuple[int, int]

    @model_validator(mode="after")
    def _image_has_pixels(self) -> ClassifierOptions:
        if min(self.image_size) < 1:
            raise ValueError(f"`image_size` must be at least 1 x 1, but is {self.image_size}")
        return self

    @property
    def image_shape(self) -> Shape:
        """Channels, height and width of an image."""
        return (self.in_channels, *self.image_size)


class BinaryOptions(ClassifierOptions):
    """Keys of classifiers whose circuit gives one number, which tells two classes apart.

    Attributes:
        logit_scale: Factor on the expectation value plus bias, which is about 1 at most; it gives the logits
            (m, -m).
        trainable_scale: Whether the factor is trained.
    """

    logit_scale: float = Field(1.0, gt=0)
    trainable_scale: bool = False

    @model_validator(mode="after")
    def _two_classes(self) -> BinaryOptions:
        if self.num_classes != 2:
            raise ValueError(
                f"`num_classes` must be 2, since one expectation value tells two classes apart, but is "
                f"{self.num_classes}"
            )
        return self


class DenseOptions(StrictModel):
    """Keys of the dense layers.

    Attributes:
        hidden: Sizes of dense layers before the last one, each with ReLU.
        dropout: Share of features that are dropped in front of each dense layer while training.
    """

    hidden: tuple[int, ...] = ()
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _hidden_layers_have_units(self) -> DenseOptions:
        if self.hidden and min(self.hidden) < 1:
            raise ValueError(f"`hidden` must be at least 1 each, but is {self.hidden}")
        return self


class ConvOptions(DenseOptions):
    """Keys of the convolutional network.

    Attributes:
        channels: Filters of the convolutions, each followed by ReLU and 2x2 max pooling.
        kernel: Side of the convolutions, odd; borders are padded with zeros.
        batch_norm: Normalise after each convolution.
    """

    channels: tuple[int, ...] = Field((16, 32), min_length=1)
    kernel: int = Field(3, ge=1)
    batch_norm: bool = False

    @model_validator(mode="after")
    def _convolutions_are_possible(self) -> ConvOptions:
        if min(self.channels) < 1:
            raise ValueError(f"`channels` must be at least 1 each, but are {self.channels}")
        if self.kernel % 2 == 0:
            raise ValueError(f"`kernel` must be odd, but is {self.kernel}")
        return self


def dense_layers(inputs: int, options: DenseOptions, outputs: int) -> nn.Sequential:
    """Return flattening and dense layers from `inputs` numbers to `outputs`."""
    layers: list[nn.Module] = [nn.Flatten()]
    sizes = (inputs, *options.hidden, outputs)
    for number, (before, after) in enumerate(pairwise(sizes)):
        layers += [nn.ReLU(inplace=True)] if number else []
        layers += [nn.Dropout(options.dropout)] if options.dropout else []
        layers.append(nn.Linear(before, after))
    return nn.Sequential(*layers)


def conv_network(shape: Shape, options: ConvOptions, outputs: int) -> nn.Sequential:
    """Return convolutions with max pooling, then dense layers, from features of `shape` to `outputs` numbers.

    Raises:
        ConfigError: If the features are too small for the number of poolings.
    """
    channels, height, width = shape
    layers: list[nn.Module] = []
    for filters in options.channels:
        layers.append(nn.Conv2d(channels, filters, options.kernel, padding=options.kernel // 2))
        layers += [nn.BatchNorm2d(filters)] if options.batch_norm else []
        layers += [nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        channels, height, width = filters, height // 2, width // 2
    if not height or not width:
        raise ConfigError(
            f"Features of {shape[1]} x {shape[2]} must survive {len(options.channels)} poolings by 2, but do "
            "not. Fix: larger images, or fewer `channels`."
        )
    return nn.Sequential(*layers, dense_layers(channels * height * width, options, outputs))


class ExpectationHead(nn.Module):
    """Two logits from one expectation value: m = scale * (<Z> + bias), logits (m, -m).

    QCQ-CNN's decision (doi 10.1038/s41598-025-13417-1, equation 20) is the sign of <Z> + bias, bias trained;
    as logits, cross-entropy can train it. <Z> = 1 speaks for class 0. With scale 1 the two logits differ by
    at most about 2, which bounds the confidence at 0.88 and leaves the decision as it is.

    Attributes:
        circuit: Map from (B, n_in) to (B, 1) in [-1, 1]: a circuit with one observable, or its stand-in.
        bias: Trained offset, 0 at first, shape (1,).
        scale: Factor, shape (1,).
    """

    def __init__(self, circuit: nn.Module, options: BinaryOptions) -> None:
        """Build the head on a circuit."""
        super().__init__()
        self.circuit = circuit
        self.bias = nn.Parameter(torch.zeros(1))
        scale = torch.full((1,), options.logit_scale)
        self.scale: Tensor
        if options.trainable_scale:
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map the circuit's inputs (B, n_in) to logits (B, 2)."""
        margin = self.scale * (self.circuit(inputs) + self.bias)
        return torch.cat([margin, -margin], dim=1)


class CheckedImages(nn.Module):
    """Hands images on that have the shape the model was built for.

    It has no parameters; a dense layer's own message about a wrong image would name neither image nor key.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, images: Tensor) -> Tensor:
        """Return `images` (B, C, H, W).

        Raises:
            ConfigError: If they have another shape.
        """
        if tuple(images.shape[1:]) != self.shape:
            raise ConfigError(
                f"Images must have shape (batch, {', '.join(map(str, self.shape))}), as `in_channels` and "
                f"`image_size` say, but have {tuple(images.shape)}."
            )
        return images
