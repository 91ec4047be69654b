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
"""Nodes of all networks that are kept, about 50 MB: plans hold memory after their engines have gone."""

_kept: OrderedDict[tuple[Any, ...], CircuitPlan] = OrderedDict()


def kept_plan(spec: CircuitSpec, noise: NoiseProfile | None, only: bool) -> CircuitPlan:
    """Return what `plan_circuit` returns, made once for all that decides it: the constants in use, too."""
    constants = tuple(sorted(constants_in_use(torch.get_num_threads()).items()))
    key = (spec.fingerprint, None if noise is None else noise.fingerprint, only, constants)
    plan = _kept.pop(key, None)
    if plan is None:
        with announced(spec.name):
            plan = plan_circuit(spec, noise, only=only)
    _kept[key] = plan
    while _kept and (len(_kept) > MOST or sum(map(_nodes, _kept.values())) > LARGEST):
        _kept.popitem(last=False)
    return plan


def _nodes(plan: CircuitPlan) -> int:
    return 0 if plan.network is None else len(plan.network.wanted.graph.nodes)
