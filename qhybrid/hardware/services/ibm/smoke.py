"""What only the real service can confirm, tried out with two small jobs of at most 10 QPU seconds together.

Where `mitigation=pea` is asked for, a third one of at most 4 s learns the noise of a gate.

For the first account that runs plans on it: everything that plans, ledger and prices count on is compared
with what the service does. Nothing is left running, and nothing is written.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.devices import Device
from qhybrid.errors import HardwareError, ServiceError
from qhybrid.hardware.circuits.decoding import decode_chunk, mark_of
from qhybrid.hardware.circuits.noise_layers import NoiseWork, checked_noise
from qhybrid.hardware.circuits.preparation import prepare_circuit
from qhybrid.hardware.circuits.prepared import PreparedCircuit, Pub, mark_of_pubs
from qhybrid.hardware.service_kinds import ServiceRules
from qhybrid.hardware.services.ibm.service import STATUS, IbmService
from qhybrid.hardware.services.interface import (
    CANCELLED,
    DONE,
    FINAL,
    Finding,
    Package,
    limit_tag,
    patiently,
)
from qhybrid.hardware.settings import LEVELS, HardwareSettings, Learning
from qhybrid.noise import NoiseProfile

MOST_SECONDS = 10
"""QPU seconds that both jobs may take together: their time limits."""
FIRST, SECOND = 6, 4
LEARNING = 4
"""QPU seconds that learning the noise of a gate may take."""
FEW = Learning(randomizations=1, shots=8, depths=(0, 2))
SHOTS = 65
"""An odd number: divided among random versions, it must come back as it was sent."""
ANGLES = (0.0, np.pi, np.pi / 2)
PRICE_FACTOR = 3.0
"""A bill further from its estimate than this makes caps useless."""


def check_service(
    settings: HardwareSettings, say: Callable[[str], None], rules: ServiceRules
) -> list[Finding]:
    """Return what is assumed of the service, and what it did.

    Args:
        settings: Backend, instance, mode and patience.
        say: Called with a sentence at every step.
        rules: By which results are read and jobs are priced.

    Raises:
        HardwareError: If the account or the device cannot be used, or has less than 10 s.
    """
    # Twirled read-outs and decoupling: the options that plans send.
    mitigation = LEVELS["standard"]
    chosen = settings.model_copy(update={"shots": SHOTS, "mitigation": mitigation, "copies": 1, "layouts": 1})
    return _Check(chosen, say, rules, bool(settings.mitigation.pea)).run()


class _Check:
    def __init__(
        self, settings: HardwareSettings, say: Callable[[str], None], rules: ServiceRules, learns: bool
    ) -> None:
        self._settings, self._say, self._rules = settings, say, rules
        self._learns = learns
        self._patience = settings.patience
        self._found: list[Finding] = []
        self._sent: list[str] = []
        self._tag = f"qhybrid-check-{secrets.token_hex(6)}"
        self._service = IbmService(settings)

    def run(self) -> list[Finding]:
        self._check_account()
        circuit = self._circuit()
        try:
            self._check_mode()
            self._check_job(circuit)
            self._check_cancellation(circuit)
            if self._learns:
                self._check_learning(circuit)
        except ServiceError as error:
            if not self._sent:
                raise
            # What was seen is paid for.
            self._note("this check", "to its end", error, False)
        finally:
            self._stop_all()
        return self._found

    def _note(self, what: str, expected: object, found: object, agrees: bool | None) -> None:
        self._found.append(Finding(what, str(expected), str(found), agrees))

    def _ask(self, question: Callable[[], Any]) -> Any:
        return patiently(question, self._patience, say=self._say)

    def _check_account(self) -> None:
        """Look at the account and the device; nothing is paid for yet."""
        name, budget = self._ask(self._service.instance_name), self._ask(self._service.budget)
        left = budget.remaining_seconds
        most = MOST_SECONDS + (LEARNING if self._learns else 0)
        if budget.used_up or (left is not None and left < most):
            raise HardwareError(
                f"The instance must have {most} s left for this check, but {name} has "
                f"{left or 0:g} s. Fix: wait for the next period, or use another instance; nothing was sent."
            )
        self._note("instance and its time", "known", f"{name}, {left} s left", left is not None)
        delays = self._service.rep_delays_us()
        shown = "not told" if delays is None else f"{delays[0]:g} us, {delays[1]:g} to {delays[2]:g}"
        self._note("delay between executions", "default and range are told", shown, delays is not None)
        device, state = self._ask(self._service.today)
        self._note("state of the device", "in operation", state or "in operation", not state)
        known = {"rz", "sx", "x", "cz"}
        missing = sorted(known - set(device.basis_gates))
        self._note("gates", ", ".join(sorted(known)), ", ".join(device.basis_gates), not missing)
        self._device: Device = device

    def _circuit(self) -> PreparedCircuit:
        """Return a rotation of one qubit beside one that stays 0: bits in the wrong order would show."""
        angle = Parameter("angle")
        circuit = QuantumCircuit(2, name="qhybrid_check")
        circuit.ry(angle, 0)
        circuit.cx(1, 0)
        spec = CircuitSpec(circuit.name, circuit, (angle,), (), (SparsePauliOp("IZ"), SparsePauliOp("ZI")))
        noise = NoiseProfile.from_backend(self._device)
        return prepare_circuit("check", spec, self._device, noise, self._settings)

    def _package(self, circuit: PreparedCircuit, number: int, limit: int) -> Package:
        points = np.array(ANGLES)[:, None]
        pubs = tuple(Pub(circuit, variant, points) for variant in range(len(circuit.variants)))
        tags = (self._tag, f"{self._tag}-{number}", limit_tag(limit))
        return Package(pubs, SHOTS, tags, limit, mark_of_pubs(pubs, SHOTS))

    def _check_mode(self) -> None:
        self._service.open(MOST_SECONDS)
        kind = self._settings.mode
        try:
            opened = self._service.begin()
        except HardwareError as error:
            self._note(f"a {kind} for the jobs", "opened", error, False)
            raise
        if opened is not None:
            self._note(f"a {kind} for the jobs", "opened, with an id", f"{opened[0]}", bool(opened[0]))

    def _check_job(self, circuit: PreparedCircuit) -> None:
        """Send a job and look at everything that a plan counts on."""
        self._say(f"sending a job of {FIRST} s at most")
        package = self._package(circuit, 1, FIRST)
        started = time.monotonic()
        job_id = self._send(package)
        self._note("options: twirling, decoupling, tags, time limit", "accepted", "accepted", True)
        self._check_listing(job_id, package, started)
        status = self._wait(job_id)
        self._note("how the job ended", DONE, status, status == DONE)
        if status == DONE:
            self._check_result(job_id, circuit, package)
        self._check_bill(job_id, circuit)

    def _check_listing(self, job_id: str, package: Package, started: float) -> None:
        limit = self._patience.resend_after_s
        listed: list[Any] = []
        while not listed and time.monotonic() - started < 2 * limit:
            every = self._ask(lambda: self._service.find(package.tags[1]))
            listed = [one for one in every if one.id == job_id]
            if not listed:
                time.sleep(min(self._patience.poll_s, 1.0))
        seconds = time.monotonic() - started
        text = f"after {seconds:.1f} s" if listed else f"not within {seconds:.0f} s"
        self._note("listed by its tag", f"within {limit:g} s", text, bool(listed) and seconds <= limit)
        if listed:
            same = set(listed[0].tags) == set(package.tags)
            self._note("tags", "as they were sent", "the same" if same else listed[0].tags, same)
        name, seconds_told = self._ask(lambda: self._service.told_of(job_id))
        self._note("name of the job's state", ", ".join(STATUS), name, name in STATUS)
        self._note("the service's own estimate", "some seconds", seconds_told, bool(seconds_told) or None)

    def _wait(self, job_id: str) -> str:
        pause, started = self._patience.poll_s, time.monotonic()
        deadline = self._patience.deadline_s
        while (status := self._ask(lambda: self._service.view(job_id)).status) not in FINAL:
            if deadline is not None and time.monotonic() - started > deadline:
                return str(status)
            self._say(f"the job is {status}")
            time.sleep(pause)
            pause = min(2 * pause, self._patience.poll_max_s)
        return str(status)

    def _check_result(self, job_id: str, circuit: PreparedCircuit, package: Package) -> None:
        raw = self._ask(lambda: self._service.result_text(job_id))
        self._note("mark of the request in the result", "there", mark_of(raw), mark_of(raw) == package.mark)
        try:
            bits = np.asarray(self._rules.read(raw)[0])
        except Exception as error:  # whatever the client makes of a form that is new to it
            self._note("form of the result", "bits of every circuit", type(error).__name__, False)
            return
        shots, qubits = self._settings.executed_shots, len(circuit.copies[0].physical)
        wanted = (len(ANGLES), shots, qubits)
        self._note("shape of the result", wanted, bits.shape, bits.shape == wanted)
        if bits.shape != wanted:
            return
        (found,) = decode_chunk(raw, [(circuit, len(ANGLES))], self._settings)
        values = found.means @ circuit.strings.coefficients.T + circuit.strings.offsets
        exact = np.stack([np.cos(ANGLES), np.ones(len(ANGLES))], axis=1)
        worst = float(np.abs(values - exact).max())
        self._note("values of a rotation by 0, pi and pi/2", "within 0.5", f"within {worst:.2f}", worst < 0.5)

    def _check_learning(self, circuit: PreparedCircuit) -> None:
        """Learn the noise of the circuit's gate, with few shots: what comes back is looked at, not used."""
        self._say(f"sending a job of {LEARNING} s at most that learns the noise of a gate")
        mitigation = LEVELS["pea"].model_copy(update={"learning": FEW})
        settings = self._settings.model_copy(update={"mitigation": mitigation, "mode": "job"})
        work = self._rules.noise_work([circuit], self._device, settings)
        tags = (self._tag, f"{self._tag}-3", limit_tag(LEARNING), work.mark(FEW))
        learner = IbmService(settings)
        job_id = learner.submit(Package((), SHOTS, tags, LEARNING, learns=work))
        self._sent.append(job_id)
        status = self._wait(job_id)
        self._note("how the job that learns noise ended", DONE, status, status == DONE)
        if status == DONE:
            self._check_noise(self._ask(lambda: learner.result_text(job_id)), work)
        self._check_seconds("bill of the job that learns noise", job_id, work.seconds, LEARNING)

    def _check_noise(self, raw: str, work: NoiseWork) -> None:
        what, expected = "noise that was learned", "rates of strings"
        try:
            found = checked_noise(work, self._rules.read_noise(raw)).found
        except Exception as error:  # whatever the client makes of a form that is new to it
            self._note(what, expected, f"{type(error).__name__}: {error}", False)
            return
        told = f"{sum(len(one.terms) for one in found)} strings of {len(found)} layer(s)"
        self._note(what, expected, told, any(one.terms for one in found))

    def _check_bill(self, job_id: str, circuit: PreparedCircuit) -> None:
        planned = self._rules.seconds([(circuit, len(ANGLES))], self._settings)
        self._check_seconds("bill of the job", job_id, planned, FIRST)

    def _check_seconds(self, what: str, job_id: str, planned: float, limit: int) -> None:
        started = time.monotonic()
        usage = self._ask(lambda: self._service.usage(job_id))
        while usage is None and time.monotonic() - started < self._patience.resend_after_s:
            time.sleep(min(self._patience.poll_s, 1.0))
            usage = self._ask(lambda: self._service.usage(job_id))
        if usage is None:
            self._note(what, f"about {planned:.2f} s", "not told yet", False)
            return
        near = planned / PRICE_FACTOR <= usage <= planned * PRICE_FACTOR
        self._note(what, f"about {planned:.2f} s", f"{usage:g} s", near)
        self._note(what.replace("bill", "time limit"), f"at most {limit} s", f"{usage:g} s", usage <= limit)

    def _check_cancellation(self, circuit: PreparedCircuit) -> None:
        self._say(f"sending a job of {SECOND} s at most, and cancelling it")
        job_id = self._send(self._package(circuit, 2, SECOND))
        stopped = self._ask(lambda: self._service.cancel(job_id))
        status = self._wait(job_id)
        expected = (CANCELLED,) if stopped else FINAL
        text = status if stopped else f"{status}, too late to cancel"
        self._note("cancellation", CANCELLED, text, None if not stopped else status in expected)
        bill = self._ask(lambda: self._service.usage(job_id))
        self._note("bill of a cancelled job", f"0 to {SECOND} s", f"{bill} s", bill is None or bill <= SECOND)

    def _send(self, package: Package) -> str:
        job_id = self._service.submit(package)
        self._sent.append(job_id)
        return job_id

    def _stop_all(self) -> None:
        """Cancel whatever of this check still runs, and close its batch."""
        try:
            self._service.close()
        except ServiceError as error:
            self._say(f"the batch of this check ends by itself: {error}")
        listed: list[str] = []
        try:
            listed = [one.id for one in self._service.find(self._tag)]
        except ServiceError as error:
            self._say(f"jobs with the tag {self._tag} may still run, look at them: {error}")
        for job_id in dict.fromkeys([*self._sent, *listed]):
            try:
                if self._service.view(job_id).status not in FINAL:
                    self._service.cancel(job_id)
            except ServiceError as error:
                self._say(f"job {job_id} may still run, look at it: {error}")
