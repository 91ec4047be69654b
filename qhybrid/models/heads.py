"""What ends an image classifier: dense layers, or a trained circuit with logits from its observables."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

import torch
from torch import Tensor, nn

from qhybrid.engines.base import Engine
from qhybrid.layers import LayeredClassifier
from qhybrid.models.circuit_part import circuit_layer, circuit_spec
from qhybrid.models.classifier_keys import DenseOptions, HeadOptions, Shape
from qhybrid.models.classifier_parts import network_of

INPUTS_OF_LAYERED = 2


class LogitScale(Protocol):
    """Keys that scale expectation values to logits."""

    @property
    def logit_scale(self) -> float:
        """Factor on an expectation value plus bias."""
        ...

    @property
    def trainable_scale(self) -> bool:
        """Whether the factor is trained."""
        ...


class LatentAngles(nn.Module):
    """Angles from the last dense layer's output."""

    def __init__(self, latent: str, scale: float) -> None:
        super().__init__()
        self.bounded = latent == "tanh"
        self.scale = scale

    def forward(self, values: Tensor) -> Tensor:
        """Map values (B, n) to angles (B, n) in radians."""
        return self.scale * (torch.tanh(values) if self.bounded else values)


class ExpectationHead(nn.Module):
    """Logits from expectation values: scale * (<O_k> + bias_k), or (m, -m) of a single one.

    QCQ-CNN's decision (doi 10.1038/s41598-025-13417-1, equation 20) is the sign of <Z> + bias, bias trained;
    as logits, cross-entropy can train it. <Z> = 1 speaks for class 0. With scale 1 the two logits differ by
    at most about 2, which bounds the confidence at 0.88 and leaves the decision as it is.

    Attributes:
        circuit: Map from (B, n_in) to (B, n) in [-1, 1]: a circuit, or its stand-in.
        bias: Trained offsets, 0 at first, shape (n,).
        scale: Factor, shape (1,).
    """

    def __init__(self, circuit: nn.Module, options: LogitScale, observables: int = 1) -> None:
        """Build the head on a circuit with as many observables."""
        super().__init__()
        self.circuit = circuit
        self.bias = nn.Parameter(torch.zeros(observables))
        scale = torch.full((1,), options.logit_scale)
        self.scale: Tensor
        if options.trainable_scale:
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map the circuit's inputs (B, n_in) to logits (B, max(n, 2))."""
        logits = self.scale * (self.circuit(inputs) + self.bias)
        return torch.cat([logits, -logits], dim=1) if logits.shape[1] == 1 else logits


class LinearHead(nn.Module):
    """Logits by a dense layer from expectation values.

    Attributes:
        circuit: Map from (B, n_in) to (B, n).
        linear: The dense layer.
    """

    def __init__(self, circuit: nn.Module, observables: int, num_classes: int) -> None:
        """Build the head on a circuit."""
        super().__init__()
        self.circuit = circuit
        self.linear = nn.Linear(observables, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map the circuit's inputs (B, n_in) to logits (B, K)."""
        logits: Tensor = self.linear(self.circuit(inputs))
        return logits


def head_core(options: HeadOptions, engine: Engine | None) -> nn.Module | None:
    """Return the circuit of a head, or what stands in its place; none for dense layers."""
    if options.circuit is not None:
        return circuit_layer(options.circuit, engine, frozen=options.frozen)
    return (
        LayeredClassifier(2 if options.reps is None else options.reps) if options.name == "layered" else None
    )


def build_head(
    options: HeadOptions, core: nn.Module | None, shape: Shape, network: DenseOptions, num_classes: int
) -> nn.Sequential:
    """Return everything behind the image or its filter.

    Args:
        options: The section `head`.
        core: What `head_core` returned.
        shape: Channels, height and width of what comes in.
        network: Keys of the convolutions and dense layers in front of the circuit.
        num_classes: Logits that go out.
    """
    if core is None:
        return network_of(shape, network, num_classes)
    spec = None if options.circuit is None else circuit_spec(options.circuit)
    inputs, outputs = (INPUTS_OF_LAYERED, 1) if spec is None else (spec.num_inputs, spec.num_observables)
    linear = options.with_logits(num_classes).logits == "linear"
    parts: dict[str, nn.Module] = {
        "network": network_of(shape, network, inputs),
        "angles": LatentAngles(options.latent, options.latent_scale),
        "classifier": LinearHead(core, outputs, num_classes)
        if linear
        else ExpectationHead(core, options, outputs),
    }
    return nn.Sequential(OrderedDict(parts))
