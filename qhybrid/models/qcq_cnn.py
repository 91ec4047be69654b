"""QCQ-CNN (doi 10.1038/s41598-025-13417-1) and the models that it is compared with.

- mlp: flatten, dense
- quanvo_mlp: fixed quantum filter, flatten, dense
- cnn: convolutions, dense
- qccnn: fixed quantum filter, convolutions, dense
- qcq_cnn: fixed quantum filter, convolutions, dense to 2, quantum classifier
- qcq_cnn_twin: the same with a classical classifier of as many weights
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qhybrid.models.circuit_part import named_circuit
from qhybrid.models.classifier_keys import (
    BinaryOptions,
    ClassifierOptions,
    ConvOptions,
    DenseOptions,
    HeadOptions,
)
from qhybrid.models.fixed_filter import FilterOptions

QUBITS_OF_CLASSIFIER = 2


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

    @property
    def head_part(self) -> HeadOptions:
        """The classical classifier of as many weights."""
        return HeadOptions(
            name="layered",
            latent=self.latent,
            latent_scale=self.latent_scale,
            logits="margin",
            logit_scale=self.logit_scale,
            trainable_scale=self.trainable_scale,
            reps=self.reps,
        )


class QCQCNNOptions(LatentOptions):
    """Keys of `qcq_cnn`.

    Attributes:
        feature_map_reps: Repetitions of the classifier's feature map.
    """

    feature_map_reps: int = Field(2, ge=1)

    @property
    def head_part(self) -> HeadOptions:
        """The circuit `qcq_classifier` with these keys."""
        circuit = named_circuit(
            "qcq_classifier",
            num_qubits=QUBITS_OF_CLASSIFIER,
            reps=self.reps,
            feature_map_reps=self.feature_map_reps,
        )
        return HeadOptions(
            circuit=circuit,
            latent=self.latent,
            latent_scale=self.latent_scale,
            logits="margin",
            logit_scale=self.logit_scale,
            trainable_scale=self.trainable_scale,
        )
