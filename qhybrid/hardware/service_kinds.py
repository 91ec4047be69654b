"""Services by name: what executes jobs, which devices each one has, and by which rules it works.

`register_service` adds one. What a service is made of is imported when it is needed: clients take seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qiskit import QuantumCircuit

from qhybrid.devices import Device
from qhybrid.errors import HardwareError
from qhybrid.hardware.pub_results import PubResult
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.plugins import Registry, resolved

if TYPE_CHECKING:
    from qhybrid.hardware.circuits.noise_layers import NoiseWork
    from qhybrid.hardware.circuits.prepared import PreparedCircuit
    from qhybrid.hardware.services.interface import Backend, Finding, JobService

CHOICES: dict[str, Callable[[HardwareSettings], bool]] = {
    "mitigation.dynamical_decoupling": lambda settings: settings.mitigation.dynamical_decoupling,
    "mitigation.gate_twirling": lambda settings: settings.mitigation.gate_twirling,
    "mitigation.measure_twirling": lambda settings: settings.mitigation.measure_twirling,
    "mitigation.pea": lambda settings: bool(settings.mitigation.pea),
    "rep_delay_us": lambda settings: settings.rep_delay_us is not None,
    "private": lambda settings: settings.private,
    "mode=session": lambda settings: settings.mode == "session",
}
"""What a service may or may not do, and whether settings ask for it."""
FREE = frozenset({"barrier", "delay"})
"""Instructions that do nothing to a qubit."""


class ServiceRules:
    """By which rules a service works. All of it is asked offline; a subclass changes what is different.

    The rules of this class are those of a device with gates that is billed for its time.

    Attributes:
        limited_angles: Gates whose angles must be within 0 and pi/2; they are rewritten (`rzz` alone).
        offers: What the service does where settings ask for it, of `CHOICES`. All else is refused: results
            that were not twirled would be read as if they were.
        learns: Whether the noise of layers is learned by a job before errors are put in (`mitigation.pea`).
            Where it is not, whoever executes knows the noise.
    """

    limited_angles: frozenset[str] = frozenset()
    offers: frozenset[str] = frozenset()
    learns: bool = False

    def check_settings(self, settings: HardwareSettings) -> None:
        """Check, before anything is planned, that the service does what the settings ask for.

        Raises:
            HardwareError: If it does not, with the key and the remedy.
        """
        if settings.use_fractional_gates:
            raise HardwareError(
                f"Setting `use_fractional_gates` must be one that the service of {settings.backend} has, but "
                "it has no such choice: a circuit is made of all gates of its device. Fix: leave it out."
            )
        lacking = [name for name, asked in CHOICES.items() if asked(settings) and name not in self.offers]
        if lacking:
            raise HardwareError(
                f"Setting `{lacking[0]}` must be one that the service of {settings.backend} carries out, but "
                f"it does not ({', '.join(lacking)}). Fix: leave it out, or --mitigation cheap or zne; a "
                "service that does it says so with `offers` of its rules. Nothing was planned."
            )

    def problem(self, circuit: QuantumCircuit, device: Device) -> str:
        """Return why a circuit is not executable on a device; "" if it is.

        Args:
            circuit: The circuit on all qubits of the device.
            device: The device.
        """
        for one in circuit.data:
            name = one.operation.name
            qubits = tuple(circuit.find_bit(qubit).index for qubit in one.qubits)
            if name != "barrier" and not device.target.instruction_supported(name, qubits):
                return f"the instruction {name} on qubits {qubits} is not one of the device's."
        return ""

    def seconds(self, work: Sequence[tuple[PreparedCircuit, int]], settings: HardwareSettings) -> float:
        """Return the seconds that a job is expected to be billed.

        overhead + executions x (delay between executions + length of the circuit)

        Args:
            work: Circuits and how many points of each the job executes.
            settings: Shots and prices.
        """
        shots, delay = settings.executed_shots, settings.delay_seconds
        return settings.price.overhead_s + sum(
            circuit.executions(points, shots) * (delay + circuit.seconds) for circuit, points in work
        )

    def instructions(self, circuit: PreparedCircuit) -> int:
        """Return what a parameter set counts towards `limits.instructions`: gates on the busiest qubit.

        Args:
            circuit: The circuit; all measured circuits of it count.
        """
        return sum(
            1 + busiest_load(spec.circuit, lambda name: int(name not in FREE))
            for spec in circuit.copies[0].specs
        )

    def read(self, raw: str) -> list[PubResult]:
        """Return what came back for every measured circuit.

        Args:
            raw: A result as the service sent it, in a form of its own. Where errors are put in
                (`mitigation.pea`) shots of one random version follow those of another: error bars are made
                of how versions differ.

        Raises:
            ValueError: If it cannot be read.
        """
        raise ValueError("it is in no form that is known")

    def noise_work(
        self, circuits: Sequence[PreparedCircuit], device: Device, settings: HardwareSettings
    ) -> NoiseWork:
        """Return the layers of gates whose noise `mitigation.pea` raises, and what learning it costs.

        Args:
            circuits: What is executed.
            device: The device.
            settings: Delay between executions, mitigation and prices.

        Raises:
            HardwareError: If it is not known.
        """
        raise HardwareError(
            f"The rules of the service of {settings.backend} offer `mitigation.pea`, so they must say with "
            "`noise_work` what is learned, but do not. Fix: another mitigation."
        )

    def check_noise_work(
        self, circuits: Sequence[PreparedCircuit], work: NoiseWork, settings: HardwareSettings
    ) -> None:
        """Check, before a job that learns is sent, that it learns what the circuits need; here nothing.

        Args:
            circuits: What is executed once the noise is learned.
            work: What is learned.
            settings: Mitigation.

        Raises:
            HardwareError: If a layer of a circuit is missing.
        """

    def read_noise(self, raw: str) -> list[tuple[int, Any, Any]]:
        """Return what was learned: for every layer its number of qubits, strings and their rates.

        Args:
            raw: A result as the service sent it. A string is its letters and the places of its qubits among
                those of the layer, ascending.

        Raises:
            ValueError: If it cannot be read.
        """
        raise ValueError("it is in no form that is known")

    def devices(self) -> list[str]:
        """Return the names of the account's devices that are in operation.

        Raises:
            HardwareError: If there is no usable account.
        """
        return []

    def is_whole_instance(self, instance: str | None) -> bool:
        """Return whether a setting says for sure which part of an account pays; names may be ambiguous."""
        return instance is not None

    def check_service(self, settings: HardwareSettings, say: Callable[[str], None]) -> list[Finding]:
        """Try out, with small jobs that are paid for, what is assumed of the service.

        Args:
            settings: Backend, instance, mode and patience.
            say: Called with a sentence at every step.

        Raises:
            HardwareError: If the service has no such check, or the account cannot be used.
        """
        raise HardwareError(
            f"The service of {settings.backend} must have a check of its own, but has none. Fix: plan a run "
            "with --limit 1 and few shots instead."
        )


COMMON_RULES = ServiceRules()


@dataclass(frozen=True)
class ServiceKind:
    """One service.

    Attributes:
        make: Function of a plan's settings and folder that returns what executes its jobs. Every call
            must reach the jobs of earlier ones: a plan may be collected by another process.
        open_backend: Function of a plan's settings that returns its backend; it checks the account.
        description: One line for lists.
        paid: Whether executions cost money or an allowance.
        devices: Patterns of its devices' names, such as `garnet_*`; of several services that have one the
            nearest pattern decides. Empty: its devices are found by `service` alone.
        rules_of: By which rules it works, or `module:name` of them.
    """

    make: Callable[[HardwareSettings, Path], JobService] | str
    open_backend: Callable[[HardwareSettings], Backend] | str
    description: str
    paid: bool = True
    devices: tuple[str, ...] = ()
    rules_of: ServiceRules | str = COMMON_RULES

    @property
    def rules(self) -> ServiceRules:
        """By which rules it works."""
        found: ServiceRules = resolved(self.rules_of)
        return found

    def nearness(self, device: str) -> int:
        """Return how near a pattern comes to a device's name: letters that are not wild; -1 if none fits."""
        return max(
            (len(one.strip("*?")) for one in self.devices if fnmatchcase(device, one)),
            default=-1,
        )


SERVICES: Registry[ServiceKind] = Registry("service", HardwareError)


def register_service(
    name: str,
    make: Callable[[HardwareSettings, Path], JobService],
    open_backend: Callable[[HardwareSettings], Backend] | None = None,
    *,
    description: str = "",
    paid: bool = True,
    devices: Sequence[str] = (),
    rules: ServiceRules | None = None,
    replace: bool = False,
) -> None:
    """Make a service known to hardware plans: `qhybrid hardware plan --service NAME`.

    Args:
        name: Its name.
        make: Function of a plan's settings and folder that returns the `JobService`; see `ServiceKind`.
        open_backend: Function of a plan's settings that returns the `Backend`; absent: the setting
            `backend` names a fake device or `aer`, whose target and calibration are used.
        description: One line for lists.
        paid: Whether executions cost money or an allowance.
        devices: Patterns of its devices' names, such as `garnet_*`: plans on them need no `--service`.
        rules: By which rules it works; absent: those of a device that is billed for its time.
        replace: Whether it may take the place of another one.

    Raises:
        PluginError: If the name is taken.
    """
    opened = open_backend or "qhybrid.hardware.services.local:local_backend"
    kind = ServiceKind(make, opened, description, paid, tuple(devices), rules or COMMON_RULES)
    SERVICES.register(name, kind, replace=replace)


def service_name(backend: str, service: str | None = None) -> str:
    """Return the name of a plan's service: the one that it names, else the one whose device it is.

    Raises:
        HardwareError: If no service or several have such a device.
    """
    if service is not None:
        return service
    ranked = Counter({name: kind.nearness(backend) for name, kind in SERVICES.items()})
    best, small = max(ranked.values()), backend.lower()
    if max(kind.nearness(small) for _, kind in SERVICES.items()) > best:
        # An account, which other names are looked up in, is not what is missing.
        raise HardwareError(
            f"Setting `backend` must be a device's name as it is written, but is `{backend}`. Did you mean "
            f"`{small}`? Fix: --backend {small}, or --service NAME."
        )
    found = [name for name, near in ranked.items() if near == best]
    if best < 0 or len(found) > 1:
        what = "no service has" if best < 0 else f"services {' and '.join(found)} have"
        raise HardwareError(
            f"Setting `backend` must name a device of one service, but {what} a device `{backend}`. Fix: "
            "--service NAME."
        )
    return found[0]


def service_of(backend: str, service: str | None = None) -> ServiceKind:
    """Return the service of a plan; see `service_name`.

    Raises:
        HardwareError: If there is none of that name, or no service or several have such a device.
    """
    return SERVICES.get(service_name(backend, service), "setting `service`")


def with_service(settings: HardwareSettings) -> HardwareSettings:
    """Return settings that name their service where it is a plugin's: other names may then mean others."""
    name = service_name(settings.backend, settings.service)
    return settings if name in OWN else settings.model_copy(update={"service": name})


def rules_of(settings: HardwareSettings) -> ServiceRules:
    """Return the rules of a plan's service.

    Raises:
        HardwareError: If there is no such service.
    """
    return service_of(settings.backend, settings.service).rules


def is_paid(backend: str, service: str | None = None) -> bool:
    """Return whether executions cost money or an allowance."""
    return service_of(backend, service).paid


def list_service_devices() -> list[str]:
    """Return the names of all devices of the accounts of all services.

    Raises:
        HardwareError: If no service has devices, and one of them no usable account.
    """
    found: list[str] = []
    errors: list[HardwareError] = []
    for _, kind in SERVICES.items():
        try:
            found += kind.rules.devices()
        except HardwareError as error:
            errors.append(error)
    if errors and not found:
        raise errors[0]
    return found


def busiest_load(circuit: QuantumCircuit, weight: Callable[[str], int]) -> int:
    """Return the largest sum of weights that the instructions on one qubit have.

    Args:
        circuit: The circuit.
        weight: Weight of an instruction by its name.
    """
    counts: Counter[Any] = Counter()
    for one in circuit.data:
        counts.update(dict.fromkeys(one.qubits, weight(one.operation.name)))
    return max(counts.values(), default=0)


# The services of the package, by name: everything else asks this table.
OWN = ("local", "ibm")
_OWN = "qhybrid.hardware.services"
for _name, _kind in {
    "local": ServiceKind(
        f"{_OWN}.local:local_service",
        f"{_OWN}.local:local_backend",
        "fake devices and simulators here",
        False,
        ("aer", "fake_*"),
        f"{_OWN}.ibm.rules:FAKES",
    ),
    "ibm": ServiceKind(
        f"{_OWN}.ibm.kind:make_service",
        f"{_OWN}.ibm.kind:open_backend",
        "devices of IBM Quantum",
        True,
        ("ibm_*", "*"),
        f"{_OWN}.ibm.rules:RULES",
    ),
}.items():
    SERVICES.register(_name, _kind)
