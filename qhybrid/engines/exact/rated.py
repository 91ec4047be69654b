"""Execute a circuit whose noise rates are tensors, so that gradients flow to them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.exact.execute import NetworkExecutor, in_parts
from qhybrid.engines.exact.explain import part_samples
from qhybrid.engines.exact.plan import CircuitPlan, plan_circuit
from qhybrid.engines.exact.rate_channels import RateTable
from qhybrid.engines.exact.rates import RatePlan
from qhybrid.noise import NoiseProfile


class RatedCircuit:
    """A circuit planned for some rates.

    Args:
        spec: The circuit and its observables.
        noise: The profile; the named rates in it are replaced by tensors.
        names: Their names.
        like: Tensor that shows dtype and device.

    Attributes:
        plan: The plan; its only method is the network.
    """

    def __init__(
        self, spec: CircuitSpec, noise: NoiseProfile, names: tuple[str, ...], like: torch.Tensor
    ) -> None:
        rates = RatePlan(noise, names)
        self.plan: CircuitPlan = plan_circuit(spec, noise, rates)
        self._network = self.plan.network
        self._part = 0
        if self._network is not None:
            sizes = (spec.num_inputs, spec.num_weights, spec.num_observables)
            self._executor = NetworkExecutor(self._network.program, self._network.outputs, sizes, like)
            self._table = RateTable(rates, self._network.program.channels, like)
            self._part = part_samples(self._network.cost, like.dtype.itemsize)

    def __call__(
        self, inputs: torch.Tensor, weights: torch.Tensor, rates: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the expectation values, shape (n_obs, B), for input rows of shape (n_in, B)."""
        channels = self._table(rates)
        if inputs.shape[1] <= self._part:
            return self._executor(inputs, weights, *channels)
        return in_parts(self._executor, inputs, self._part, weights, *channels)
