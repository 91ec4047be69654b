"""A Qiskit Machine Learning `NeuralNetwork` that runs a CircuitSpec on one of our engines."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from qiskit_machine_learning.neural_networks import NeuralNetwork

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.base import Engine

Array = NDArray[np.float64]


class EngineNetwork(NeuralNetwork):  # type: ignore[misc]
    """Face of (spec, engine) for code that expects Qiskit's `NeuralNetwork`.

    `QuantumLayer` does not go through `forward` and `backward` of this class: it calls the engine with
    tensors, so that no Jacobian is built. They are here for everything else in Qiskit Machine Learning that
    takes a network.

    Attributes:
        spec: The circuit.
        engine: What executes it; may be replaced at any time.
    """

    def __init__(self, spec: CircuitSpec, engine: Engine) -> None:
        super().__init__(
            num_inputs=spec.num_inputs,
            num_weights=spec.num_weights,
            sparse=False,
            output_shape=(spec.num_observables,),
            input_gradients=True,
        )
        self.spec = spec
        self.engine = engine

    def _forward(self, input_data: Array | None, weights: Array | None) -> Array:
        inputs, angles = self._tensors(input_data, weights)
        with torch.no_grad():
            values = self.engine.expectations(self.spec, inputs, angles)
        return np.asarray(values.cpu().numpy(), dtype=np.float64)

    def _backward(self, input_data: Array | None, weights: Array | None) -> tuple[Array | None, Array]:
        """Return Jacobians of shape (B, n_obs, n_in) and (B, n_obs, n_w), sample by sample.

        The first one is None while `input_gradients` is off.
        """
        inputs, angles = self._tensors(input_data, weights)
        by_input = inputs.new_zeros((len(inputs), self.spec.num_observables, self.spec.num_inputs))
        by_weight = inputs.new_zeros((len(inputs), self.spec.num_observables, self.spec.num_weights))
        for index, sample in enumerate(inputs):
            # A plain TorchConnector asks inside its own backward pass, where nothing is recorded.
            with torch.inference_mode(False), torch.enable_grad():
                row = sample.clone()[None].requires_grad_()
                angles = angles.detach().clone().requires_grad_()
                values = self.engine.expectations(self.spec, row, angles)[0].unbind()
            for output, value in enumerate(values):
                gradients = torch.autograd.grad(value, (row, angles), retain_graph=True, allow_unused=True)
                if gradients[0] is not None:
                    by_input[index, output] = gradients[0][0]
                if gradients[1] is not None:
                    by_weight[index, output] = gradients[1]
        return by_input.cpu().numpy() if self.input_gradients else None, by_weight.cpu().numpy()

    def _tensors(self, input_data: Array | None, weights: Array | None) -> tuple[torch.Tensor, torch.Tensor]:
        rows = np.zeros((1, 0)) if input_data is None else input_data
        angles = np.zeros(0) if weights is None else weights
        return torch.tensor(rows, dtype=torch.float64), torch.tensor(angles, dtype=torch.float64)
