"""By which rules IBM's service works: what is executable, how instructions count, how results are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qiskit import QuantumCircuit

from qhybrid.devices import Device
from qhybrid.errors import HardwareError
from qhybrid.hardware.pub_results import PubResult
from qhybrid.hardware.service_kinds import CHOICES, ServiceRules, busiest_load
from qhybrid.hardware.settings import HardwareSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qhybrid.hardware.circuits.noise_layers import NoiseWork
    from qhybrid.hardware.circuits.prepared import PreparedCircuit
    from qhybrid.hardware.services.interface import Finding

INSTRUCTIONS = {"rz": 1, "delay": 1, "sx": 2, "x": 2, "cx": 5, "cz": 5, "ecr": 5, "barrier": 0}
INSTRUCTIONS |= {"measure": 10, "reset": 17, "init": 50}
"""Control instructions of a gate, as the service's validation counts them (IBM's guide "Job limits")."""
OTHER_INSTRUCTIONS = 5
"""Of a gate that the guide does not name."""


class IbmRules(ServiceRules):
    """Rules of IBM's devices. The client is imported when it is needed: it takes seconds."""

    limited_angles = frozenset({"rzz"})
    offers = frozenset(CHOICES)
    learns = True

    def check_settings(self, settings: HardwareSettings) -> None:
        """Check that the service does what the settings ask for.

        The client refuses twirled gates with fractional ones ("Non-Clifford and unbound fractional
        entanglers"); it takes twirled read-outs and dynamical decoupling with them.
        """
        mitigation = settings.mitigation
        clash = [
            text
            for text, on in (
                ("gate_twirling", mitigation.gate_twirling),
                ("zne, which needs the inverse of every gate", bool(mitigation.zne)),
            )
            if on
        ]
        if settings.use_fractional_gates and clash:
            raise HardwareError(
                "Setting `use_fractional_gates` must go without "
                f"mitigation.{' and mitigation.'.join(clash)}: gates of any angle can be neither twirled nor "
                "undone on the device. Fix: --mitigation standard, or use_fractional_gates=false; nothing "
                "was planned."
            )

    def problem(self, circuit: QuantumCircuit, device: Device) -> str:
        """Return why a circuit is not executable on a device, by the client's own rules; "" if it is."""
        from qiskit_ibm_runtime.utils.utils import is_isa_circuit

        return str(is_isa_circuit(circuit, device.target))

    def instructions(self, circuit: PreparedCircuit) -> int:
        """Return control instructions of the busiest qubit over all measured circuits of a circuit."""
        own = INSTRUCTIONS["init"] + INSTRUCTIONS["measure"]
        return sum(
            own + busiest_load(spec.circuit, lambda name: INSTRUCTIONS.get(name, OTHER_INSTRUCTIONS))
            for spec in circuit.copies[0].specs
        )

    def read(self, raw: str) -> list[PubResult]:
        """Return the bits of every measured circuit from the service's text, offline."""
        from qiskit_ibm_runtime.decoders.defaults import DEFAULT_DECODERS
        from qiskit_ibm_runtime.results import QuantumProgramResult

        from qhybrid.hardware.circuits.prepared import REGISTER

        result: Any = raw
        for decoder in DEFAULT_DECODERS["executor"]:
            if decoder.is_applicable(result):
                result = decoder.decode(result)
            for item in result if isinstance(result, QuantumProgramResult) else ():
                # The sampler's reader does not know what comes with errors that are put in.
                signs = item.pop("pauli_signs", None)
                if signs is not None and signs.any():
                    raise ValueError("errors were put in with negative probabilities")
        return [pub.data[REGISTER].to_bool_array(order="little") for pub in result]

    def noise_work(
        self, circuits: Sequence[PreparedCircuit], device: Device, settings: HardwareSettings
    ) -> NoiseWork:
        """Return the distinct layers as the client divides circuits, and what learning them costs."""
        from qhybrid.hardware.services.ibm.learning import noise_work

        return noise_work(circuits, device, settings)

    def check_noise_work(
        self, circuits: Sequence[PreparedCircuit], work: NoiseWork, settings: HardwareSettings
    ) -> None:
        """Check that what is learned are the layers of circuits as the client divides them today."""
        from qhybrid.hardware.services.ibm.learning import check_noise_work

        check_noise_work(circuits, work, settings)

    def read_noise(self, raw: str) -> list[tuple[int, Any, Any]]:
        """Return what the service's noise learner found, offline."""
        from qhybrid.hardware.services.ibm.learning import read_noise

        return read_noise(raw)

    def devices(self) -> list[str]:
        """Return the names of the account's devices that are in operation."""
        from qhybrid.hardware.services.ibm.connection import list_service_devices

        return list_service_devices()

    def is_whole_instance(self, instance: str | None) -> bool:
        """Return whether an instance is given by its CRN."""
        return str(instance).startswith("crn:")

    def check_service(self, settings: HardwareSettings, say: Callable[[str], None]) -> list[Finding]:
        """Try out what is assumed of the service, for at most 10 QPU seconds."""
        from qhybrid.hardware.services.ibm.smoke import check_service

        return check_service(settings, say, self)


class FakeRules(IbmRules):
    """Fake devices are snapshots of IBM's: plans on them cost, and are limited, as on the real ones.

    Nothing is learned on them: their noise is the calibration's.
    """

    learns = False

    def devices(self) -> list[str]:
        """Return none: they belong to no account."""
        return []

    def check_service(self, settings: HardwareSettings, say: Callable[[str], None]) -> list[Finding]:
        """Refuse: there is no service behind a fake device."""
        return ServiceRules.check_service(self, settings, say)


RULES, FAKES = IbmRules(), FakeRules()
