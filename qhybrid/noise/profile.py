"""Noise profiles: made, read, written, scaled, restricted to some qubits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from qhybrid.config import read_yaml, validated
from qhybrid.errors import ConfigError
from qhybrid.noise.channels.base import NoiseChannel, check_factor, checked_kraus
from qhybrid.noise.rates import NoiseRates
from qhybrid.noise.sites import ChannelNoise
from qhybrid.noise.transforms import renumbered_names, restricted, scaled, scaled_channels
from qhybrid.workspace import write_text

KRAUS_DIGITS = 12
"""Decimals of Kraus operators that enter a hash: machines differ in the last ones."""


class NoiseProfile(NoiseRates):
    """Error rates of a device, or made up; `NoiseRates` has its keys and what it says of a gate."""

    @classmethod
    def depolarizing(cls, p_1q: float = 0.0, p_2q: float = 0.0) -> NoiseProfile:
        """Return a profile of depolarizing noise alone.

        Args:
            p_1q: Parameter after every one-qubit gate, 0 to 4/3.
            p_2q: Parameter after every two-qubit gate, 0 to 16/15.

        Raises:
            ConfigError: If a parameter is out of range.
        """
        content = {"name": f"depolarizing {p_1q:g} {p_2q:g}", "p_1q": p_1q, "p_2q": p_2q}
        return validated(cls, content, "NoiseProfile.depolarizing")

    @classmethod
    def load(cls, path: str | Path) -> NoiseProfile:
        """Read a profile from a YAML file.

        Raises:
            ConfigError: If the file cannot be read, or a key or value is wrong.
        """
        content = {"name": Path(path).stem, **read_yaml(path)}
        return validated(cls, content, str(path))

    @classmethod
    def from_backend(cls, backend: Any, *, symmetric_readout: bool = False) -> NoiseProfile:
        """Return the profile of a device's calibration, as Aer's `NoiseModel.from_backend` reads it.

        The reported gate error includes relaxation during the gate; what relaxation does not explain becomes
        depolarizing noise. T2 is clamped to 2 T1. Gates of zero error and duration (rz) are ideal.

        Args:
            backend: Name of a fake backend (`fake_torino`, see `qhybrid.devices.list_devices()`), a Qiskit
                BackendV2, or a `Device`.
            symmetric_readout: Take the mean of p01 and p10 for both, as Aer does for backends with a Target.

        Raises:
            ConfigError: If there is no such device.
        """
        from qhybrid.noise.from_device import calibrated_rates  # loads Qiskit

        content = calibrated_rates(backend, symmetric_readout)
        return validated(cls, content, str(content["description"]))

    def with_channels(self, *channels: NoiseChannel | ChannelNoise) -> NoiseProfile:
        """Return the profile with more channels.

        Args:
            *channels: Each with where it acts; a bare channel acts after all gates that it fits.

        Raises:
            ConfigError: If one cannot act where it is said to.
        """
        content = {**dict(self), "channels": (*self.channels, *channels)}
        return validated(type(self), content, f"noise profile `{self.name}`")

    def save(self, path: str | Path) -> Path:
        """Write the profile as YAML that `load` reads back: one line a qubit and a gate, defaults left out.

        Raises:
            WorkspaceError: If the file cannot be written.
        """
        content = {"name": self.name, **self.model_dump(exclude_defaults=True, exclude_none=True)}
        sections = {key: content.pop(key) for key in ("qubits", "gates", "channels") if key in content}
        style: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 110}
        text = yaml.safe_dump(content, **style)
        if sections:
            text += yaml.safe_dump(sections, default_flow_style=None, **style)
        return write_text(path, text)

    def scale(self, factor: float) -> NoiseProfile:
        """Return the profile with all rates multiplied: 0 is no noise, 2 is twice as much.

        Depolarizing parameters saturate at 1 (fully mixed), read-out errors at 1/2 (no information); decay
        times are divided. Values that are beyond those bounds already stay as they are when the factor is at
        least 1. Channels are scaled as each of them says, and go where nothing is left of them.

        Args:
            factor: At least 0.

        Raises:
            ConfigError: If the factor is negative or not finite.
        """
        check_factor(factor)
        content = {
            **scaled(self.model_dump(), factor),
            "name": f"{self.name} x {factor:g}",
            "channels": scaled_channels(self.channels, factor),
        }
        return validated(type(self), content, f"noise profile `{self.name}` scaled by {factor:g}")

    def restrict(self, qubits: Sequence[int]) -> NoiseProfile:
        """Return the profile of some qubits, numbered anew: the first of `qubits` becomes 0.

        Args:
            qubits: Distinct qubits of the device, as `CircuitSpec.used_qubits` gives them.

        Raises:
            ConfigError: If a qubit is given twice, or a device's profile does not know it.
        """
        chosen = list(qubits)
        if len(set(chosen)) < len(chosen) or any(qubit < 0 for qubit in chosen):
            raise ConfigError(f"Argument `qubits` must be distinct indices, but is {chosen}.")
        missing = sorted(set(chosen) - set(self.qubits)) if self.listed_only else []
        if missing:
            raise ConfigError(
                f"Argument `qubits` must be qubits of noise profile `{self.name}`, which has no "
                f"{', '.join(map(str, missing))}. Fix: give the profile of the device that the circuit was "
                "transpiled to."
            )
        parts = restricted(self.qubits, self.gates, self.channels, chosen)
        return self.model_copy(update={**parts, "assumed": renumbered_names(self.assumed, chosen)})

    @property
    def fingerprint(self) -> str:
        """Hash of everything that changes results; names and notes do not enter.

        Kinds of channels of plugins and scripts count by their Kraus operators: their code may change, and
        the kind keeps its name.
        """
        content = self.model_dump_json(exclude={"name", "description", "source", "date", "device", "assumed"})
        return hashlib.sha256(f"{content}{self.code}".encode()).hexdigest()

    @property
    def code(self) -> str:
        """Hash of what channels of plugins and scripts do, by their Kraus operators; empty without any."""
        digest, own = hashlib.sha256(), __name__.split(".")[0]
        others = [one.channel for one in self.channels if type(one.channel).__module__.split(".")[0] != own]
        for channel in others:
            for size in channel.sizes:
                operators = np.round(checked_kraus(channel, size), KRAUS_DIGITS) + 0.0
                digest.update(np.ascontiguousarray(operators).tobytes())
        return digest.hexdigest() if others else ""
