"""The exact engine's options: what they may be, and what is said where they cannot be honoured."""

from __future__ import annotations

from dataclasses import replace

import torch

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.exact.explain import Explanation
from qhybrid.engines.exact.native.library import kernels
from qhybrid.engines.exact.plan import CircuitPlan
from qhybrid.engines.shots.sampler import LAWS
from qhybrid.errors import EngineError

METHODS = ("auto", "network", "statevector", "density", "mps")
"""Ways to compute; "auto" takes the cheapest exact one."""
KERNELS = ("torch", "compiled")
"""What can execute statevectors."""


def check_kernel(kernel: str | None, method: str, device: torch.device) -> None:
    """Check the option `kernel`; see `ExactEngine`."""
    if kernel not in (None, *KERNELS):
        raise EngineError(f"Option `kernel` must be one of {', '.join(KERNELS)}, but is {kernel!r}.")
    if kernel is not None and method not in ("auto", "statevector", "density"):
        raise EngineError(
            f"Option `kernel` must be left out where no state is carried, but method is {method!r}, which "
            "would ignore it."
        )
    if kernel != "compiled":
        return
    if device.type != "cpu":
        raise EngineError(
            f"Option `kernel`: 'compiled' must run on the CPU, but the device is {str(device)!r}. "
            "Fix: kernel='torch'."
        )
    if kernels().library is None:
        raise EngineError(
            f"Option `kernel`: 'compiled' needs the compiled kernels, but {kernels().reason}. "
            "Fix: install qhybrid anew where g++ or clang++ is found, or leave the option out."
        )


def by_kernels(spec: CircuitSpec, plan: CircuitPlan, found: Explanation) -> Explanation:
    """Refuse a statevector that would be executed by torch, where the compiled kernels are asked for."""
    if found.method == "network":
        note = "; kernel='compiled' is not used, as it executes no networks"
        return replace(found, reason=found.reason + note)
    if found.method == "statevector" and plan.states is not None and plan.states.unknown:
        raise EngineError(
            f"Option `kernel`: 'compiled' must know all gates and read-outs of circuit `{spec.name}`, but "
            f"does not know {plan.states.unknown}. Fix: kernel='torch', or leave the option out, or give "
            "larger gates a definition in gates on one or two qubits."
        )
    return found


def check_graphs(cuda_graphs: object, method: str, device: torch.device) -> None:
    """Check the option `cuda_graphs`; see `ExactEngine`."""
    if not isinstance(cuda_graphs, bool):
        raise EngineError(f"Option `cuda_graphs` must be true or false, but is {cuda_graphs!r}.")
    if cuda_graphs and (device.type != "cuda" or method == "mps"):
        raise EngineError(
            "Option `cuda_graphs` must be left out except on a CUDA device with method auto, network or "
            f"statevector, but the device is {str(device)!r} and the method {method!r}. Fix: device='cuda'."
        )


def check_shots_options(shots: int | None, seed: int | None, law: str | None) -> None:
    """Check the options of shots; see `ExactEngine`."""
    if law is not None and law not in LAWS:
        raise EngineError(f"Option `shots_law` must be one of {', '.join(LAWS)}, but is {law!r}.")
    if shots is None and (seed is not None or law is not None):
        raise EngineError("Arguments `seed` and `shots_law` need `shots`: exact values are not random.")


def usable_device(name: str) -> torch.device:
    """Return the torch device of a name, after a look whether it can be used."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise EngineError(
            f"Argument `device` must be a usable torch device, but is {name!r}: {error}"
        ) from error
    return device


def refusal(spec: CircuitSpec, found: Explanation) -> str:
    """Return the message for a circuit that no method can execute."""
    tried = "; ".join(
        f"{name}: {memory / 2**20:,.0f} MiB, {seconds:,.1f} s" for name, seconds, memory in found.alternatives
    )
    return (
        f"Circuit `{spec.name}` ({spec.num_qubits} qubits) must fit the memory "
        f"({found.limit_bytes / 2**20:,.0f} MiB usable), "
        f"but for {found.batch} samples {found.reason} ({tried or 'nothing to try'}). "
        "Fix: fewer samples a call, fewer repetitions, observables with smaller light cones, or method='mps' "
        "for circuits of low entanglement without noise on gates."
    )
