"""QCQ-CNN (doi 10.1038/s41598-025-13417-1) and the models that it is compared with.

- mlp: flatten, dense
- quanvo_mlp: fixed quantum filter, flatten, dense
- cnn: convolutions, dense
- qccnn: fixed quantum filter, convolutions, dense
- qcq_cnn: fixed quantum filter, convolutions, dense to 2, quantum classifier
- qcq_cnn_twin: the same with a classical classifier of as many weights
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from qhybrid.circuits import build_circuit
from qhybrid.engines.base import Engine
from qhybrid.layers import LayeredClassifier, QuantumLayer
from qhybrid.models.classifier_parts import (
    BinaryOptions,
    CheckedImages,
    ClassifierOptions,
    ConvOptions,
    DenseOptions,
    ExpectationHead,
    conv_network,
    dense_layers,
)
from qhybrid.models.fixed_filter import FilterOptions, FixedFilterModel, build_filter


class MLPOptions(ClassifierOptions, DenseOptions):
    """Keys of `mlp`; the paper's has no hidden layer."""


class CNNOptions(ClassifierOptions, ConvOptions):
    """Keys of `cnn`; the paper's has 16 and 32 filters of 3 x 3 and no hidden dense layer."""


class QuanvoMLPOptions(FilterOptions, DenseOptions):
    """Keys of `quanvo_mlp`."""


class QCCNNOptions(FilterOptions, ConvOptions):
    """Keys of `qccnn`."""


class LatentOptions(FilterOptions, BinaryOptions, ConvOptions):
    """Keys of `qcq_cnn_twin`, which `qcq_cnn` has too.

    Attributes:
        reps: Repetitions of the classifier's ansatz: 1, 2, 3 are the paper's depths 3, 5, 7 with 4, 6, 8
            weights.
        latent: What the two numbers in front of the classifier go through: `linear` hands them on as
            angles, as in the paper; `tanh` bounds them to +-latent_scale.
        latent_scale: Factor from them to angles in radians.
    """

    reps: int = Field(2, ge=0)
    latent: Literal["linear", "tanh"] = "linear"
    latent_scale: float = Field(1.0, gt=0)


class QCQCNNOptions(LatentOptions):
    """Keys of `qcq_cnn`.

    Attributes:
        feature_map_reps: Repetitions of the classifier's feature map.
    """

    feature_map_reps: int = Field(2, ge=1)


QUBITS_OF_CLASSIFIER = 2


class LatentAngles(nn.Module):
    """Angles from the last dense layer's output."""

    def __init__(self, latent: str, scale: float) -> None:
        super().__init__()
        self.bounded = latent == "tanh"
        self.scale = scale

    def forward(self, values: Tensor) -> Tensor:
        """Map values (B, n) to angles (B, n) in radians."""
        return self.scale * (torch.tanh(values) if self.bounded else values)


def build_mlp(options: MLPOptions) -> nn.Module:
    """Build the dense baseline."""
    channels, height, width = options.image_shape
    head = dense_layers(channels * height * width, options, options.num_classes)
    return nn.Sequential(CheckedImages(options.image_shape), head)


def build_cnn(options: CNNOptions) -> nn.Module:
    """Build the convolutional baseline."""
    head = conv_network(options.image_shape, options, options.num_classes)
    return nn.Sequential(CheckedImages(options.image_shape), head)


def build_quanvo_mlp(options: QuanvoMLPOptions, engine: Engine | None) -> FixedFilterModel:
    """Build a dense layer behind the fixed filter."""
    layer, (channels, height, width) = build_filter(options, engine)
    head = dense_layers(channels * height * width, options, options.num_classes)
    return FixedFilterModel(layer, head, options.image_shape)


def build_qccnn(options: QCCNNOptions, engine: Engine | None) -> FixedFilterModel:
    """Build convolutions and a dense layer behind the fixed filter."""
    layer, shape = build_filter(options, engine)
    return FixedFilterModel(layer, conv_network(shape, options, options.num_classes), options.image_shape)


def build_qcq_cnn(options: QCQCNNOptions, engine: Engine | None) -> FixedFilterModel:
    """Build QCQ-CNN on an engine (the exact one if None).

    Its quantum layers are `quanvolution.filter` and `head.classifier.circuit`.
    """
    spec = build_circuit(
        "qcq_classifier",
        num_qubits=QUBITS_OF_CLASSIFIER,
        reps=options.reps,
        feature_map_reps=options.feature_map_reps,
    )
    return _with_classifier(options, engine, QuantumLayer(spec, engine))


def build_qcq_cnn_twin(options: LatentOptions, engine: Engine | None) -> FixedFilterModel:
    """Build QCQ-CNN with a classical classifier; its one quantum layer is `quanvolution.filter`."""
    return _with_classifier(options, engine, LayeredClassifier(options.reps))


def _with_classifier(
    options: LatentOptions, engine: Engine | None, classifier: nn.Module
) -> FixedFilterModel:
    layer, shape = build_filter(options, engine)
    parts: dict[str, nn.Module] = {
        "network": conv_network(shape, options, QUBITS_OF_CLASSIFIER),
        "angles": LatentAngles(options.latent, options.latent_scale),
        "classifier": ExpectationHead(classifier, options),
    }
    return FixedFilterModel(layer, nn.Sequential(OrderedDict(parts)), options.image_shape)
