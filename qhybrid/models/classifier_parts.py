"""Parts of the image classifiers: dense layers, convolutional network, check of the images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from qhybrid.errors import ConfigError
from qhybrid.models.classifier_keys import ConvOptions, DenseOptions, Shape


def dense_layers(inputs: int, options: DenseOptions, outputs: int) -> nn.Sequential:
    """Return flattening and dense layers from `inputs` numbers to `outputs`."""
    layers: list[nn.Module] = [nn.Flatten()]
    sizes = (inputs, *options.hidden, outputs)
    for number, (before, after) in enumerate(pairwise(sizes)):
        layers += [nn.ReLU(inplace=True)] if number else []
        layers += [nn.Dropout(options.dropout)] if options.dropout else []
        layers.append(nn.Linear(before, after))
    return nn.Sequential(*layers)


def network_of(shape: Shape, options: DenseOptions, outputs: int) -> nn.Sequential:
    """Return the convolutions that the keys ask for and dense layers, from features of `shape` to `outputs`.

    Raises:
        ConfigError: If the features are too small for the number of poolings.
    """
    if isinstance(options, ConvOptions) and options.channels:
        return conv_network(shape, options, outputs)
    return dense_layers(math.prod(shape), options, outputs)


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
