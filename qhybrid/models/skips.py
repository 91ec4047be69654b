"""Circuits on the skip connections of a U-Net: each gates the channels of one level."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from qhybrid.engines.base import Engine
from qhybrid.errors import ConfigError
from qhybrid.models.circuit_part import Circuits, PartOptions, circuit_layer, circuit_spec, named_part

_START = 0.01
"""Standard deviation of a gate's initial weights: near the identity, but with a gradient for the circuit."""


class SkipOptions(PartOptions):
    """Circuits on the skip connections.

    Attributes:
        circuit: Name of a circuit, the file of its definition, or a section with `name` and `arguments`; or a
            list, one a level.
        levels: Which skip connections, 0 being that at full resolution; all of them by default.
        angle_scale: Factor from the tanh output, in [-1, 1], to the input angle in radians.
        frozen: Keep the circuits at their random initial angles (an ablation).
        gate_angle: Initial value, in radians, of one trained angle a gate, which is the identity where that
            angle is zero (QSkip of HQF-Net, our reconstruction). Absent: no such angle.
    """

    circuit: Circuits
    levels: tuple[int, ...] | None = Field(None, min_length=1)
    angle_scale: float = Field(1.0, gt=0)
    frozen: bool = False
    gate_angle: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_a_section(cls, content: Any) -> Any:
        return named_part(content)

    @model_validator(mode="after")
    def _levels_fit(self) -> SkipOptions:
        levels = self.levels or ()
        if len(set(levels)) != len(levels) or min(levels, default=0) < 0:
            raise ValueError(f"`levels` must be different numbers from 0, but are {list(levels)}")
        contents = self.circuit if isinstance(self.circuit, tuple) else (self.circuit,)
        for spec in map(circuit_spec, contents):
            if not spec.num_inputs:
                raise ValueError(f"circuit `{spec.name}` must have inputs, but has none")
        if isinstance(self.circuit, tuple) and levels and len(levels) != len(self.circuit):
            raise ValueError(f"`circuit` lists {len(self.circuit)} for {len(levels)} `levels`")
        return self

    def contents(self, levels: int) -> dict[int, dict[str, Any]]:
        """Return the circuit of each chosen level of a U-Net.

        Args:
            levels: Skip connections that the U-Net has.

        Raises:
            ConfigError: If a level does not exist, or circuits and levels are not as many.
        """
        chosen = tuple(range(levels)) if self.levels is None else self.levels
        if max(chosen) >= levels:
            raise ConfigError(
                f"Key `skips.levels` must be from 0 to {levels - 1}, but is {list(chosen)}. Fix: leave out "
                "what the U-Net does not have."
            )
        several = self.circuit if isinstance(self.circuit, tuple) else (self.circuit,) * len(chosen)
        if len(several) != len(chosen):
            raise ConfigError(
                f"Key `skips.circuit` lists {len(several)} circuits, but there are {len(chosen)} skip "
                "connections. Fix: name as many `skips.levels`."
            )
        return dict(zip(chosen, several, strict=True))


class SkipGate(nn.Module):
    """y_c = x_c (1 + tanh(g_c)), with g a linear map of what a core says of the mean of every channel.

    With zero weights of the gate it is the identity; a new gate is near it. With a gate angle gamma it is
    y_c = x_c (1 + sin(gamma) tanh(g_c)) and g has no offset: the identity where gamma is zero, or where the
    core says zero.

    Attributes:
        core: Map from (B, n_in) angles to (B, n_out): a circuit, or what stands in its place.
        gate: The linear map from (B, n_out) to (B, channels).
        gate_angle: gamma in radians, shape (); None without.
    """

    gate_angle: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        core: nn.Module,
        inputs: int,
        outputs: int,
        angle_scale: float = 1.0,
        gate_angle: float | None = None,
    ) -> None:
        """Build the gate.

        Args:
            channels: Channels of the skip connection.
            core: The circuit, or what stands in its place.
            inputs: Its inputs.
            outputs: Its outputs.
            angle_scale: Factor from the tanh output to the input angle in radians.
            gate_angle: Initial gamma in radians; None leaves it out.
        """
        super().__init__()
        self.angle_scale = angle_scale
        self.reduce = nn.Linear(channels, inputs)
        self.core = core
        self.gate = nn.Linear(outputs, channels, bias=gate_angle is None)
        self.gate_angle = None if gate_angle is None else nn.Parameter(torch.tensor(float(gate_angle)))
        if gate_angle is None:
            nn.init.normal_(self.gate.weight, std=_START)
            nn.init.zeros_(self.gate.bias)

    def forward(self, skip: Tensor) -> Tensor:
        """Map features (B, channels, h, w) to the same shape."""
        means = _means(skip)
        angles = self.reduce(means).float().tanh() * self.angle_scale
        change = torch.tanh(self.gate(self.core(angles)))
        factor = 1 + (change if self.gate_angle is None else self.gate_angle.sin() * change)
        return skip * factor[:, :, None, None].to(skip.dtype)


def _means(features: Tensor) -> Tensor:
    """Return the mean of every channel, (B, C), of features (B, C, h, w).

    Of bf16 by a product with ones, which adds in single precision too: torch's own mean takes ten times as
    long there.
    """
    if features.dtype != torch.bfloat16:
        return features.mean(dim=(2, 3))
    batch, channels, height, width = features.shape
    ones = features.new_ones(1, height * width)
    if features.is_contiguous(memory_format=torch.channels_last):
        sums = ones @ features.permute(0, 2, 3, 1).reshape(batch, -1, channels)
    else:
        sums = features.flatten(2) @ ones.T
    return sums.reshape(batch, channels).float() / (height * width)


def build_skips(
    options: SkipOptions | None, channels: tuple[int, ...], engine: Engine | None
) -> nn.ModuleDict:
    """Build the gates of a U-Net.

    Args:
        options: The section `skips`; none gives no gates.
        channels: Channels of every skip connection, that at full resolution first.
        engine: What executes the circuits; the noiseless exact engine if absent.

    Returns:
        Gates by the number of their level, as text.

    Raises:
        ConfigError: If a level does not exist.
    """
    gates = nn.ModuleDict()
    if options is None:
        return gates
    for level, content in options.contents(len(channels)).items():
        layer = circuit_layer(content, engine, frozen=options.frozen)
        spec = layer.spec
        gates[str(level)] = SkipGate(
            channels[level],
            layer,
            spec.num_inputs,
            spec.num_observables,
            options.angle_scale,
            options.gate_angle,
        )
    return gates


def check_cut(cut: tuple[int, ...] | None, skips: SkipOptions | None, levels: int) -> None:
    """Check which skip connections of a U-Net are left out.

    Args:
        cut: Their levels, 0 being that at full resolution; none if absent.
        skips: Circuits on skip connections.
        levels: Skip connections that the U-Net has.

    Raises:
        ConfigError: If a level does not exist, is named twice, or has a circuit.
    """
    if cut is None:
        return
    if len(set(cut)) != len(cut) or not cut or min(cut) < 0 or max(cut) >= levels:
        raise ConfigError(
            f"Key `cut_skips` must be different numbers from 0 to {levels - 1}, but is {list(cut)}. Fix: "
            "name skip connections that the U-Net has, 0 being that at full resolution."
        )
    both = sorted(set(cut) & set({} if skips is None else skips.contents(levels)))
    if both:
        raise ConfigError(
            f"Key `cut_skips` leaves out level {both[0]}, which `skips` puts a circuit on. Fix: name the "
            "others in `skips.levels`."
        )


def apply_skip(gates: nn.ModuleDict, level: int, skip: Tensor) -> Tensor:
    """Return the features of a skip connection, gated where its level has a gate."""
    if str(level) not in gates:
        return skip
    gated: Tensor = gates[str(level)](skip)
    return gated
