"""QuantumLayer: a circuit as a torch layer, a TorchConnector with vector-Jacobian products."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from qiskit.quantum_info import SparsePauliOp
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.neural_networks import EstimatorQNN, SamplerQNN
from torch import Tensor

from qhybrid.circuits.pauli import sparse_observables
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.engines.base import Engine, check_real
from qhybrid.engines.make import check_engine_given
from qhybrid.errors import CircuitError, EngineError
from qhybrid.layers.engine_network import EngineNetwork


class QuantumLayer(TorchConnector):  # type: ignore[misc]
    """Expectation values of a parameterised circuit as a layer.

    y[..., k] = <0| U(x, w)^dagger O_k U(x, w) |0> with input angles x, trainable angles w and observables
    O_k.

    It is a `TorchConnector` (`isinstance`, `.weight`, `.neural_network`), with these differences: the engine
    gets tensors and gives gradients of inputs and weights as vector-Jacobian products, as often as wanted, in
    both modes and under `torch.func`; any number of leading batch dimensions; autocast is off inside and in
    the backward pass, and inputs are at least float32; `torch.compile` compiles around it; the state dict
    holds `weight` alone (`_weights`, which TorchConnector adds for the same storage, is accepted on loading).

    Attributes:
        weight: Trainable angles in radians, shape (n_w,), from U(-1, 1) unless given.
    """

    def __init__(
        self,
        spec: CircuitSpec,
        engine: Engine | None = None,
        initial_weights: np.ndarray | Tensor | None = None,
    ) -> None:
        """Build the layer.

        Args:
            spec: The circuit.
            engine: What executes it; the noiseless exact engine if absent.
            initial_weights: Angles in radians, shape (n_w,).

        Raises:
            EngineError: If `initial_weights` has another shape or is not real and finite, or `engine` is no
                engine.
        """
        start = None if initial_weights is None else _start(initial_weights, spec)
        chosen = check_engine_given(engine) or make_engine("exact")
        super().__init__(EngineNetwork(spec, chosen), initial_weights=start)
        if not spec.num_weights:
            # Nothing to train: keep an empty parameter out of optimisers and gradient checks.
            self.weight.requires_grad_(False)

    @classmethod
    def from_qnn(
        cls,
        qnn: EstimatorQNN,
        engine: Engine | None = None,
        initial_weights: np.ndarray | Tensor | None = None,
        *,
        layout_applied: bool | None = None,
    ) -> QuantumLayer:
        """Turn a Qiskit Machine Learning `EstimatorQNN` into a layer on one of our engines.

        Observables follow the layout of a circuit that has been transpiled, so that the values are those of
        the circuit before; see `CircuitSpec.from_circuit`. `EstimatorQNN` itself reads observables at the
        numbers of the transpiled circuit, also its default Z on every qubit.

        Args:
            qnn: The network.
            engine: What executes it; the noiseless exact engine if absent.
            initial_weights: Angles in radians, shape (n_w,), in the order of the network's weights.
            layout_applied: Whether the observables are on the qubits of the transpiled circuit (True) or on
                those before (False); None goes by their number.

        Raises:
            CircuitError: If `qnn` is not an EstimatorQNN.
        """
        if isinstance(qnn, SamplerQNN):
            raise CircuitError(
                "Argument `qnn` must be an EstimatorQNN, but is a SamplerQNN, which returns probabilities of "
                "bit strings. Fix: EstimatorQNN(circuit=..., observables=[...]) without measurements; the "
                "probability of even parity is (1 + <Z...Z>) / 2, that of a 1 in one qubit (1 - <Z>) / 2."
            )
        if not isinstance(qnn, EstimatorQNN):
            raise CircuitError(f"Argument `qnn` must be an EstimatorQNN, but is {type(qnn).__name__}.")
        observables = list(sparse_observables(qnn.observables, qnn.circuit.num_qubits))
        if observables == [_default_observable(qnn)]:
            letters = "Z" * qnn.num_virtual_qubits
            observables, layout_applied = [SparsePauliOp(letters)], False
        spec = CircuitSpec.from_circuit(
            qnn.circuit,
            list(qnn.input_params),
            list(qnn.weight_params),
            observables,
            layout_applied=layout_applied,
        )
        return cls(spec, engine, initial_weights)

    @property
    def spec(self) -> CircuitSpec:
        """The circuit."""
        spec: CircuitSpec = self.neural_network.spec
        return spec

    @property
    def engine(self) -> Engine:
        """What executes the circuit; assign another engine to re-run the same weights elsewhere."""
        engine: Engine = self.neural_network.engine
        return engine

    @engine.setter
    def engine(self, engine: Engine) -> None:
        self.neural_network.engine = check_engine_given(engine) or make_engine("exact")

    # TorchConnector registers one parameter under two names, and its property `weight` returns `_weights`.
    # Looking `_weights` up under the other name keeps a single entry in parameters and state dicts, also
    # while torch.func swaps it.
    @property
    def _weights(self) -> Tensor:
        try:
            weight: Tensor = self._parameters["weight"]
        except KeyError:
            raise AttributeError("weight") from None
        return weight

    def register_parameter(self, name: str, param: torch.nn.Parameter | None) -> None:
        """Register a parameter; `_weights` is an alias and is left out."""
        if name != "_weights":
            super().register_parameter(name, param)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        alias = state_dict.pop(f"{prefix}_weights", None)
        if alias is not None:
            state_dict.setdefault(f"{prefix}weight", alias)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, input_data: Tensor | None = None) -> Tensor:
        """Execute the circuit for every row.

        Args:
            input_data: Input angles in radians, shape (..., n_in); may be left out for a circuit without
                inputs, and stands for shape (0,) then.

        Returns:
            Expectation values, shape (..., n_obs), float32 or float64; shape (n_obs,) without inputs, as
            TorchConnector has it.

        Raises:
            EngineError: If the shape does not fit, the input is no real floating-point tensor, or not finite.
        """
        network: EngineNetwork = self.neural_network
        spec, weight = network.spec, self.weight
        rows = self._rows(input_data, spec)
        if weight.dtype != rows.dtype:
            weight = weight.to(rows.dtype)
        if rows.ndim == 2:
            return network.engine.expectations(spec, rows, weight)
        flat = rows.reshape(math.prod(rows.shape[:-1]), spec.num_inputs)
        values = network.engine.expectations(spec, flat, weight)
        return values.reshape(*rows.shape[:-1], spec.num_observables)

    def _rows(self, input_data: Tensor | None, spec: CircuitSpec) -> Tensor:
        if input_data is None and spec.num_inputs == 0:
            return torch.zeros(0, dtype=self.weight.dtype, device=self.weight.device)
        if not isinstance(input_data, Tensor):
            given = "nothing" if input_data is None else type(input_data).__name__
            raise EngineError(
                f"Circuit `{spec.name}` takes a torch tensor of {spec.num_inputs} inputs in the last "
                f"dimension, but was given {given}. Fix: "
                "layer(torch.as_tensor(data, dtype=torch.float32))."
            )
        if input_data.ndim == 0 or input_data.shape[-1] != spec.num_inputs:
            raise EngineError(
                f"Circuit `{spec.name}` takes {spec.num_inputs} inputs in the last dimension, but the tensor "
                f"has shape {tuple(input_data.shape)}."
            )
        check_real("input_data", input_data)
        rows: Tensor = input_data
        return rows if rows.dtype in (torch.float32, torch.float64) else rows.float()

    def extra_repr(self) -> str:
        """Describe the circuit in `print(model)`."""
        spec = self.spec
        return (
            f"circuit={spec.name}, qubits={spec.num_qubits}, inputs={spec.num_inputs}, "
            f"weights={spec.num_weights}, "
            f"outputs={spec.num_observables}, engine={self.engine.kind}"
        )


def _start(given: Any, spec: CircuitSpec) -> np.ndarray:
    """Return initial weights, checked."""
    tensor = torch.as_tensor(given).detach().cpu()
    if tuple(tensor.shape) != (spec.num_weights,):
        raise EngineError(
            f"Argument `initial_weights` must have shape ({spec.num_weights},), but has "
            f"{tuple(tensor.shape)}."
        )
    if tensor.is_complex() or not bool(torch.isfinite(tensor).all()):
        raise EngineError(f"Argument `initial_weights` must be real and finite, but is {tensor.tolist()}.")
    return np.asarray(tensor.float().numpy())


def _default_observable(qnn: EstimatorQNN) -> SparsePauliOp:
    """Return what an EstimatorQNN reads if it was given no observables."""
    count = qnn.num_virtual_qubits
    letters = [("Z" * count, range(count), 1.0)]
    return SparsePauliOp.from_sparse_list(letters, num_qubits=qnn.circuit.num_qubits)


def quantum_layers(module: torch.nn.Module) -> Mapping[str, QuantumLayer]:
    """Return all quantum layers of a module by their dotted names, in execution-independent module order."""
    return {name: child for name, child in module.named_modules() if isinstance(child, QuantumLayer)}
