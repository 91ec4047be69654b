"""Noise profiles of a sweep: found, scaled, put on a device, and checked against the circuits beforehand."""

from __future__ import annotations

from collections.abc import Iterable

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.devices import Device, list_devices, load_device
from qhybrid.engines.mapped import DeviceMapping
from qhybrid.engines.noise.channels import gate_channel
from qhybrid.engines.noise.composites import taken_apart
from qhybrid.engines.noise.gate_names import check_gate_names, noise_name
from qhybrid.errors import CircuitError, ConfigError, EngineError
from qhybrid.noise import NoiseProfile, load_profile
from qhybrid.noise.library import profile_label

ALL_TO_ALL = "all_to_all"
AUTO = "auto"
_NOTHING = NoiseProfile().fingerprint
_ROUTED = f" In a sweep: `mappings: [{AUTO}]` routes circuits to the profile's own device."
_VIRTUAL = frozenset({"barrier", "delay", "id"})


class SweepProfiles:
    """Profiles by the names a sweep file uses, each read once."""

    def __init__(self) -> None:
        self._profiles: dict[str, NoiseProfile] = {}
        self._scaled: dict[tuple[str, float], NoiseProfile | None] = {}

    def profile(self, name: str) -> NoiseProfile:
        """Return a profile as it is written.

        Raises:
            ConfigError: If there is no such profile, or a value is out of range.
        """
        if name not in self._profiles:
            self._profiles[name] = load_profile(name)
        return self._profiles[name]

    def scaled(self, name: str, factor: float) -> NoiseProfile | None:
        """Return a profile with its rates multiplied; None where nothing is left."""
        key = (name, factor)
        if key not in self._scaled:
            found = self.profile(name)
            found = found if factor == 1 else found.scale(factor)
            self._scaled[key] = None if found.fingerprint == _NOTHING else found
        return self._scaled[key]

    def check_labels(self) -> None:
        """Check that tables and charts can tell the profiles that were read apart.

        Raises:
            ConfigError: If two of other content have the same label.
        """
        known: dict[str, str] = {}
        for name, profile in self._profiles.items():
            other = known.setdefault(profile_label(name), name)
            if self._profiles[other].fingerprint != profile.fingerprint:
                raise ConfigError(
                    f"Noise profiles of a sweep must have names of their own, but {other} and {name} would "
                    f"both be `{profile_label(name)}` in tables and charts. Fix: rename one of the files."
                )

    def mapping(self, name: str, mapping: str) -> str:
        """Return what `auto` stands for: the device of a device's profile, else all-to-all."""
        if mapping != AUTO:
            return mapping
        profile = self.profile(name)
        return (profile.device or profile.name) if profile.listed_only else ALL_TO_ALL


def find_device(name: str) -> Device:
    """Return the device of a mapping.

    Raises:
        ConfigError: If there is none of that name.
    """
    if name not in list_devices():
        raise ConfigError(
            f"A mapping must be {AUTO}, {ALL_TO_ALL} or a fake device, but is {name!r}. Fix: choose one of "
            f"`qhybrid noise devices`, for example {', '.join(list_devices()[:3])}; for a profile of another "
            "device name the device it was made from."
        )
    return load_device(name)


def check_profile_fits(
    profile: NoiseProfile | None, spec: CircuitSpec, mapping: DeviceMapping | None
) -> None:
    """Check that a profile knows the qubits and gates of a circuit, before anything is computed.

    Args:
        profile: The profile; None fits everything.
        spec: The circuit.
        mapping: Routes it to a device; None runs it as written.

    Raises:
        ConfigError: If the profile is for other qubits or gates than the circuit uses, or a rate is out of
            range for a gate that it is used for.
    """
    if profile is None:
        return
    circuit, qubits = spec, spec.used_qubits
    if mapping is not None:
        routed = mapping.route(spec)
        circuit, qubits = routed.spec, routed.qubits
    if not profile.listed_only and profile.qubits and not set(qubits) & set(profile.qubits):
        raise ConfigError(
            f"Noise profile `{profile.name}` must be for the qubits of circuit `{spec.name}`, which uses "
            f"{_listed(qubits)}, but has values for {_listed(profile.qubits)} alone. Fix: renumber its "
            "qubits, or leave out `qubits`."
        )
    for one in profile.channels:
        if not profile.listed_only and one.qubits is not None and not set(qubits) & set(one.qubits):
            raise ConfigError(
                f"Channel `{one.label}` of noise profile `{profile.name}` must act on a qubit of circuit "
                f"`{spec.name}`, which uses {_listed(qubits)}. Fix: renumber its `qubits`, or leave them out."
            )
    _check_gates(profile, circuit, qubits, mapping)


def _check_gates(
    profile: NoiseProfile, circuit: CircuitSpec, qubits: tuple[int, ...], mapping: DeviceMapping | None
) -> None:
    """Ask a profile for every gate and read-out of a circuit, on `qubits` of a device if it is mapped."""
    place = dict(enumerate(qubits)) if mapping is not None else {q: q for q in qubits}
    where = ALL_TO_ALL if mapping is None else mapping.device.name
    try:
        check_gate_names(profile, circuit.circuit)
        executed = taken_apart(circuit.circuit, profile)
        asked: set[tuple[str, tuple[int, ...]]] = set()
        for instruction in executed.data:
            acted = tuple(place[executed.find_bit(qubit).index] for qubit in instruction.qubits)
            gate = noise_name(instruction.operation), acted
            if acted and instruction.operation.name not in _VIRTUAL and gate not in asked:
                asked.add(gate)
                gate_channel(profile.gate_error(*gate))
        for qubit in qubits:
            profile.readout(qubit)
    except (EngineError, CircuitError, ConfigError) as error:
        raise ConfigError(
            f"Noise profile `{profile.name}` with mapping `{where}` does not fit circuit `{circuit.name}`: "
            f"{error}{_ROUTED if profile.listed_only else ''}"
        ) from error


def _listed(qubits: Iterable[int]) -> str:
    ordered = sorted(qubits)
    shown = ", ".join(map(str, ordered[:6]))
    return f"qubits {shown}{', ...' if len(ordered) > 6 else ''}"
