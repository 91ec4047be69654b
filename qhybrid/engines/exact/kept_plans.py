"""Plans that engines of one process share: sweeps, reports and dry runs make many engines of one circuit."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.exact.announce import announced
from qhybrid.engines.exact.constants import constants_in_use
from qhybrid.engines.exact.plan import CircuitPlan, plan_circuit
from qhybrid.noise import NoiseProfile

MOST = 64
"""Plans that are kept, the latest ones."""
LARGEST = 20_000
"""Nodes of a network above which a plan is not kept: it would hold memory after its engine has gone."""

_kept: OrderedDict[tuple[Any, ...], CircuitPlan] = OrderedDict()


def kept_plan(spec: CircuitSpec, noise: NoiseProfile | None, only: bool) -> CircuitPlan:
    """Return what `plan_circuit` returns, made once for all that decides it: the constants in use, too."""
    constants = tuple(sorted(constants_in_use(torch.get_num_threads()).items()))
    key = (spec.fingerprint, None if noise is None else noise.fingerprint, only, constants)
    plan = _kept.pop(key, None)
    if plan is None:
        with announced(spec.name):
            plan = plan_circuit(spec, noise, only=only)
    if plan.network is None or len(plan.network.wanted.graph.nodes) <= LARGEST:
        _kept[key] = plan
        while len(_kept) > MOST:
            _kept.pop(next(iter(_kept)), None)
    return plan
