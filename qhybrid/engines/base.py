"""The contract of every engine: circuit, inputs and weights in, differentiable expectation values out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.guard import guarded
from qhybrid.engines.transforms import all_finite, is_vmapped
from qhybrid.errors import EngineError, NotFiniteError
from qhybrid.noise import NoiseProfile


class Engine(ABC):
    """Executes circuits.

    Every `expectations` is called by the rules of `qhybrid.engines.guard`, also of plugins.

    Attributes:
        kind: The name under which `make_engine` knows it.
        complete: Whether values are always numbers; engines that wait for results give NaN.
    """

    kind: str
    complete: bool = True

    def __init_subclass__(cls, **options: Any) -> None:
        """Put the rules that hold for every engine around its `expectations`."""
        super().__init_subclass__(**options)
        own = cls.__dict__.get("expectations")
        if own is not None and not getattr(own, "__isabstractmethod__", False):
            cls.expectations = guarded(own)  # type: ignore[method-assign]

    @abstractmethod
    def expectations(self, spec: CircuitSpec, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the expectation values of all observables for a batch of inputs.

        Args:
            spec: The circuit and its observables.
            inputs: Input angles in radians, shape (B, n_in); B may be 0.
            weights: Trainable angles in radians, shape (n_w,).

        Returns:
            Real tensor of shape (B, n_obs), on the device of `inputs`, through which gradients flow to both.

        Raises:
            EngineError: If shapes do not fit the spec or angles are not finite.
        """

    def direct(self, spec: CircuitSpec, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor | None:
        """Return the values of a call that needs none of the guard's work, or None where that is not known.

        It is asked outside of transforms and of autocast, with unchecked arguments. All values that it
        returns are finite, and their backward pass is the same whatever autocast is on then.
        """
        return None

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return kind, options, shots, seed and noise as plain values: for provenance and for cache keys."""

    @property
    def random(self) -> bool:
        """Whether values are drawn at random: from shots, or from trajectories under noise."""
        return any(self.describe().get(key) is not None for key in ("shots", "trajectories"))

    def reseed(self, seed: int) -> None:
        """Let everything random follow from another seed, from the next call on.

        Args:
            seed: The seed; the same one gives the same values for the same calls.

        Raises:
            EngineError: If the engine draws at random and cannot be seeded anew.
        """
        if self.random:
            raise EngineError(
                f"Engine `{self.kind}` must be able to start its random numbers anew, but cannot. Fix: give "
                "it a method `reseed(seed)`, or use the engine `exact`."
            )

    def circuit_key(self, spec: CircuitSpec) -> str:
        """Return a hash of the circuit that is executed for `spec`; with `describe` it decides the values.

        It is the circuit's fingerprint but for engines that execute another circuit.
        """
        return spec.fingerprint


def check_arguments(spec: CircuitSpec, inputs: torch.Tensor, weights: torch.Tensor) -> None:
    """Check shapes, dtypes and finiteness of an engine's arguments.

    Raises:
        EngineError: With both shapes, or the place of the first value that is not finite.
    """
    if inputs.ndim != 2 or inputs.shape[1] != spec.num_inputs:
        raise EngineError(
            f"Argument `inputs` must have shape (batch, {spec.num_inputs}) for circuit "
            f"`{spec.name}`, but has "
            f"{tuple(inputs.shape)}."
        )
    if weights.shape != (spec.num_weights,):
        raise EngineError(
            f"Argument `weights` must have shape ({spec.num_weights},) for circuit `{spec.name}`, but has "
            f"{tuple(weights.shape)}."
        )
    for name, tensor in (("inputs", inputs), ("weights", weights)):
        check_real(name, tensor)
        check_stored(name, tensor)
        if not all_finite(tensor):
            if is_vmapped(tensor):
                raise NotFiniteError(
                    f"Argument `{name}` of circuit `{spec.name}` must be finite, but some copy inside vmap "
                    "is not. Fix: look for a diverged layer or unscaled data in front of the circuit."
                )
            place = (~torch.isfinite(tensor.detach())).nonzero()[0].tolist()
            parameter = (spec.input_params if name == "inputs" else spec.weight_params)[place[-1]]
            raise NotFiniteError(
                f"Argument `{name}` must be finite, but is {tensor[tuple(place)].item()} at index "
                f"{place} (parameter `{parameter.name}`). Fix: look "
                "for a diverged layer or unscaled data in front of the circuit."
            )


def check_real(name: str, tensor: torch.Tensor) -> None:
    """Check that a tensor has real floating-point numbers.

    Raises:
        EngineError: If they are complex, whole or logical: an angle would lose its imaginary part, or has
            been rounded.
    """
    if not tensor.is_floating_point():
        fix = ".real or .angle() says which number is the angle" if tensor.is_complex() else ".float()"
        raise EngineError(
            f"Argument `{name}` must be real floating point, but is {tensor.dtype}. Fix: {fix}."
        )


def check_stored(name: str, tensor: torch.Tensor) -> None:
    """Check that a tensor has all its numbers in memory.

    Raises:
        EngineError: If it is sparse, or of the device `meta`, which has none.
    """
    if tensor.layout != torch.strided:
        raise EngineError(f"Argument `{name}` must be dense, but is {tensor.layout}. Fix: .to_dense().")
    if tensor.is_meta:
        raise EngineError(f"Argument `{name}` must have numbers, but is on the device `meta`.")


def attached(values: torch.Tensor, *arguments: torch.Tensor, every: bool = True) -> torch.Tensor:
    """Return values with a gradient path (of zeros) to arguments that no observable depends on.

    Args:
        values: The values.
        arguments: What they were computed from.
        every: Whether the values may depend on some arguments and not on others. False where they are
            recorded as one function of all, which takes less time.
    """
    wanted = [one for one in arguments if one.requires_grad] if torch.is_grad_enabled() else []
    if not wanted or (values.requires_grad and not every):
        return values
    # Sums of nothing: zeros whatever the argument holds.
    nothing = [one.reshape(-1)[:0].sum().to(device=values.device, dtype=values.dtype) for one in wanted]
    return values + torch.stack(nothing).sum()


def empty_result(spec: CircuitSpec, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the result for an empty batch, shape (0, n_obs), with a gradient path of zeros."""
    nothing = inputs.sum() + weights.to(device=inputs.device, dtype=inputs.dtype).sum()
    return nothing.expand(0, spec.num_observables)


def check_noise(noise: object) -> None:
    """Check an engine's argument `noise`.

    Raises:
        EngineError: If it is neither None nor a NoiseProfile.
    """
    if noise is not None and not isinstance(noise, NoiseProfile):
        raise EngineError(
            f"Argument `noise` must be a NoiseProfile, but is {noise!r}. Fix: NoiseProfile.load(path) or "
            "NoiseProfile.depolarizing(p_1q=, p_2q=)."
        )


@contextmanager
def ordinary_tensors() -> Iterator[None]:
    """Make tensors that any later call may use, also where the caller is in torch's inference mode.

    What an engine keeps from its first call, tables and memory, would otherwise be unusable for training.
    """
    with torch.inference_mode(False), torch.no_grad():
        yield


def described_noise(noise: NoiseProfile | None) -> dict[str, Any]:
    """Return what an engine says of its noise: all of the profile, and what kinds of others do."""
    if noise is None:
        return {"noise": None}
    code = {"noise_code": noise.code} if noise.code else {}
    return {"noise": noise.model_dump(mode="json"), **code}
