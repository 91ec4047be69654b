"""Execute a circuit whose noise rates are tensors, so that gradients flow to them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.exact.explain import part_samples
from qhybrid.engines.exact.network import Network
from qhybrid.engines.exact.plan import CircuitPlan, plan_circuit
from qhybrid.engines.exact.rate_channels import RateTable
from qhybrid.engines.exact.rates import RateLayout
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
        rates = RateLayout(noise, names)
        self.plan: CircuitPlan = plan_circuit(spec, noise, rates)
        network = self.plan.network
        if network is not None:
            sizes = (spec.num_inputs, spec.num_weights, spec.num_observables)
            part = part_samples(network.cost, like.dtype.itemsize)
            self._network = Network(network.program, network.outputs, sizes, like, part)
            self._table = RateTable(rates, network.program.channels, like)

    def __call__(
        self, inputs: torch.Tensor, weights: torch.Tensor, rates: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the expectation values, shape (n_obs, B), for input rows of shape (n_in, B)."""
        return self._network(inputs, weights, *self._table(rates))
