"""Settings of a plan: what is asked of the device, within which limits, and how patiently."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from qhybrid.config import StrictModel
from qhybrid.config.strict import NoSwitch
from qhybrid.errors import HardwareError
from qhybrid.mitigations import MITIGATIONS, DeviceForm, mitigation_label
from qhybrid.plugins import near_name


class Learning(StrictModel):
    """How the noise of a layer of gates is learned: 9 bases x depths x randomizations x shots executions.

    Attributes:
        randomizations: Random versions of every circuit.
        shots: Shots of each of them.
        depths: How many pairs of the layer the circuits hold; 0 tells errors of preparation and read-out
            apart from those of the layer.
    """

    randomizations: Annotated[int, NoSwitch] = Field(16, ge=1)
    shots: Annotated[int, NoSwitch] = Field(32, ge=1)
    depths: tuple[Annotated[int, NoSwitch], ...] = (0, 4, 16)

    @field_validator("depths")
    @classmethod
    def _tell_a_decay(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < max(2, len(value)) or min(value) < 0:
            raise ValueError(f"depths must be at least two different numbers from 0, but are {list(value)}")
        return value


class Mitigation(StrictModel):
    """Error mitigation; each part that is on costs time on the device or spreads the estimates.

    Attributes:
        readout: Undo read-out errors with the device's calibration (no further executions).
        dynamical_decoupling: Fill waiting times with pulses that cancel slow noise.
        gate_twirling: Randomise two-qubit gates over the Pauli group.
        measure_twirling: Randomise read-outs, which makes their errors symmetric.
        zne: Factors by which two-qubit gates are repeated for an extrapolation to zero noise, odd numbers
            from 1; each costs as much as the plain circuit. Empty for none.
        method: A plugin's mitigation, which makes its own estimates from the results; absent: none. The
            factors that it needs are those of `zne`.
        readout_shots: Shots with which every job measures the read-out errors of the plan's qubits, once with
            all of them 0 and once with all of them 1; absent: they are those of the device's calibration on
            the day of the plan.
        randomizations: Random versions of every twirled circuit, among which the shots are divided; absent:
            about 32, as many as divide the shots best; with `pea`, whose errors each version draws anew, as
            many as there are shots, up to 1024.
        pea: Factors to which the noise of two-qubit gates is raised for an extrapolation to zero noise, by
            errors that are put in as the noise is known to be: learned on the device, or from the
            calibration of a fake one. Each costs as much as the plain circuit. Empty for none.
        learning: How the noise is learned for `pea`.
    """

    readout: bool = True
    dynamical_decoupling: bool = False
    gate_twirling: bool = False
    measure_twirling: bool = False
    zne: tuple[int, ...] = ()
    method: str | None = None
    readout_shots: Annotated[int, NoSwitch] | None = Field(None, ge=1)
    randomizations: Annotated[int, NoSwitch] | None = Field(None, ge=1)
    pea: tuple[Annotated[float, NoSwitch], ...] = ()
    learning: Learning = Learning()

    @model_validator(mode="after")
    def _noise_can_be_raised(self) -> Self:
        if not self.pea:
            if self.learning != Learning():
                raise ValueError("learning must go with factors of noise, `pea`, which are empty")
            return self
        known = all(math.isfinite(one) and one >= 1 for one in self.pea)
        if not known or 1 not in self.pea or len(set(self.pea)) < max(2, len(self.pea)):
            raise ValueError(f"pea must be 1 and other factors above 1, each once, but is {list(self.pea)}")
        if self.zne or self.method is not None:
            raise ValueError("pea must go without zne and other extrapolations, which raise the noise, too")
        if not self.gate_twirling:
            raise ValueError("pea must go with gate_twirling: noise is learned, and raised, of twirled gates")
        if self.randomizations == 1:
            raise ValueError(
                "randomizations must be at least 2 with pea, but is 1: errors that are put in are drawn once "
                "a version, so all shots would have the same ones, and nothing tells how much they differ"
            )
        if self.dynamical_decoupling:
            raise ValueError(
                "pea must go without dynamical_decoupling: the noise of idle qubits is learned without it"
            )
        return self

    @model_validator(mode="after")
    def _factors_can_be_folded(self) -> Mitigation:
        odd = all(factor % 2 == 1 and factor >= 1 for factor in self.zne)
        if self.zne and (not odd or len(set(self.zne)) < 2):
            raise ValueError(f"zne must be at least two different odd numbers, but is {list(self.zne)}")
        return self

    @model_validator(mode="after")
    def _measured_rates_are_used(self) -> Self:
        if self.readout_shots is not None and not self.readout:
            raise ValueError(
                "readout_shots must go with the correction of read-out errors, which is off. Fix: "
                "--mitigation cheap, or no readout_shots"
            )
        return self

    @model_validator(mode="after")
    def _method_has_its_factors(self) -> Self:
        if self.method is not None and self.zne != device_form(self.method).folds:
            raise ValueError(
                f"zne must be {list(device_form(self.method).folds)} for mitigation `{self.method}`, but is "
                f"{list(self.zne)}. Fix: --mitigation {self.method} sets it"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out keys that are not used: plans stay as they were before these existed."""
        content: dict[str, Any] = handler(self)
        new = ["method", "readout_shots", "randomizations", "pea"]
        dropped = [key for key in new if not content[key]]
        dropped += ["learning"] if self.learning == Learning() else []
        return {key: value for key, value in content.items() if key not in dropped}

    def division(self, shots: int) -> tuple[int, int] | None:
        """Return random versions of a circuit and the shots of each; None where nothing is twirled.

        Left to itself the client rounds up: 65 shots to 128, 100 to 128, 400 to 448. Here as few as possible
        are added, none wherever 16 to 128 versions divide the shots. Errors that are put in are drawn once a
        version, so these are as many as possible then.

        Args:
            shots: Executions of every measured circuit and parameter set.
        """
        if not (self.gate_twirling or self.measure_twirling):
            return None
        least, most, usual = (512, 1024, 1024) if self.pea else (16, 128, USUAL_VERSIONS)
        allowed = range(min(least, shots), most + 1)
        chosen = allowed if self.randomizations is None else (self.randomizations,)
        versions = min(chosen, key=lambda one: (one * -(-shots // one), abs(one - usual)))
        return versions, -(-shots // versions)


USUAL_FACTOR = 3.0
USUAL_VERSIONS = 32
"""Random versions of a twirled circuit, as the client chooses them for many shots."""

LEVELS = {
    "none": Mitigation(readout=False),
    "cheap": Mitigation(),
    "standard": Mitigation(dynamical_decoupling=True, measure_twirling=True),
    "strong": Mitigation(dynamical_decoupling=True, measure_twirling=True, gate_twirling=True, zne=(1, 3)),
    "pea": Mitigation(measure_twirling=True, gate_twirling=True, pea=(1.0, 3.0)),
}
"""Error mitigation by strength; `pea` takes the place of the folded gates of `strong`."""

_PARTS = {
    "dynamical_decoupling": "dynamical decoupling",
    "gate_twirling": "twirled gates",
    "measure_twirling": "twirled read-outs",
}
"""What only a device does."""


def device_form(name: str) -> DeviceForm:
    """Return how a mitigation is done on hardware.

    Raises:
        HardwareError: If it is unknown, or has no form for hardware.
    """
    usable = [one for one, method in MITIGATIONS.items() if method.device is not None]
    form = MITIGATIONS.get(name).device if name in MITIGATIONS else None
    if form is None:
        what = "has no form for hardware" if name in MITIGATIONS else "is unknown"
        if name.lower() == "pec":
            what = (
                "is not done: for the same error bars it needs exp(4 L) times the shots for L errors "
                "a circuit, 55 times for one; `pea` needs 5 times for any"
            )
        raise HardwareError(
            f"Mitigation `{name}` {what}.{near_name(name, [*usable, *LEVELS])} Fix: choose one of "
            f"{', '.join(dict.fromkeys([*LEVELS, *usable]))}."
        )
    return form


def mitigation_of(name: str) -> Mitigation:
    """Return the settings of a mitigation: one of `LEVELS`, or a registered one that hardware can do.

    Raises:
        HardwareError: If it is unknown, or has no form for hardware.
    """
    if name in LEVELS:
        return LEVELS[name]
    form = device_form(name)
    method = None if form.estimate is None else name
    return Mitigation(readout=form.readout, zne=form.folds, method=method)


def describe_mitigation(found: Mapping[str, Any]) -> str:
    """Return the mitigation of a plan's settings in words.

    Args:
        found: Plain values of `Mitigation`.
    """
    # A plugin's method makes its own use of the stretched circuits.
    last = found.get("method") or ("zne" if found.get("zne") else "")
    words = [mitigation_label("readout")] if found.get("readout") else []
    words += ["read-out errors measured in the job"] if found.get("readout_shots") else []
    words += [text for key, text in _PARTS.items() if found.get(key)]
    words += [mitigation_label(last)] if last else []
    words += ["probabilistic error amplification"] if found.get("pea") else []
    return ", ".join(words) or mitigation_label("none")


class Limits(StrictModel):
    """Bounds of one job; what the service allows is documented in several ways, so these are cautious.

    Attributes:
        executions: Parameter sets x measured circuits x shots.
        bytes: Size of the parameters and circuits that are sent.
        pubs: Measured circuits.
        instructions: Gates on one qubit, over all parameter sets.
        jobs_per_minute: Submissions a minute.
    """

    executions: int = Field(5_000_000, ge=1)
    bytes: int = Field(20_000_000, ge=1)
    pubs: int = Field(100, ge=1)
    instructions: int = Field(20_000_000, ge=1)
    jobs_per_minute: float = Field(10.0, gt=0)


class Price(StrictModel):
    """What executions cost: seconds = overhead_s a job + executions x (rep_delay_us + circuit length).

    Attributes:
        overhead_s: Seconds of every job.
        rep_delay_us: Microseconds between two executions.
    """

    overhead_s: float = Field(2.0, ge=0)
    rep_delay_us: float = Field(250.0, ge=0)


class Patience(StrictModel):
    """How the service is asked.

    Attributes:
        resend_after_s: A job that may or may not have been accepted is sent again only after two listings
            without it that are at least this many seconds apart.
        poll_s: First pause between two questions about a job; it doubles up to `poll_max_s`.
        poll_max_s: Longest pause.
        read_timeout_s: Seconds after which an answer is given up.
        send_timeout_s: Seconds after which a submission is given up, upload included; the listings then tell
            whether it was accepted.
        retries: How often a question is asked again after an error.
        attempts: Jobs that are tried for one chunk if they fail.
        deadline_s: Seconds that `collect` and `run` wait at most; None: as long as it takes.
    """

    resend_after_s: float = Field(60.0, ge=0)
    poll_s: float = Field(5.0, gt=0)
    poll_max_s: float = Field(60.0, gt=0)
    read_timeout_s: float = Field(60.0, gt=0)
    send_timeout_s: float = Field(300.0, gt=0)
    retries: int = Field(5, ge=0)
    attempts: int = Field(3, ge=1)
    deadline_s: float | None = Field(None, gt=0)


class Pilot(StrictModel):
    """The small job of a plan that goes first and is looked at before the others are sent.

    Attributes:
        above_s: Plans for paid devices that are estimated at more QPU seconds have one; `submit --pilot` and
            `--no-pilot` decide otherwise.
        seconds: QPU seconds that its executions take by the estimate, at most.
        time_factor: Without a cap the plan stops if jobs take longer than estimated by more than this.
        deviation_factor: The plan stops if observables deviate from their exact values by more than this
            factor of what was predicted for device and shots.
    """

    above_s: float = Field(60.0, ge=0)
    seconds: float = Field(10.0, gt=0)
    time_factor: float = Field(2.0, ge=1)
    deviation_factor: float = Field(3.0, ge=1)


class HardwareSettings(StrictModel):
    """All settings of a plan.

    Attributes:
        backend: `fake_torino` or another fake backend, `aer` (no noise), or a device of the service.
        instance: The part of the account that pays; absent: the account's own choice. A plan keeps to one.
        shots: Executions of every measured circuit and parameter set.
        seed: Of layouts and simulated shots.
        layers: Quantum layers that run on the device; absent: all but those of fixed filters.
        simulator: Of fake backends: `exact` (exact expectation values under the device's noise, shots drawn
            jointly) or `aer` (trajectories).
        mode: `batch` or `job`; `session` keeps the device between jobs and is billed for all of that time.
        copies: Copies of a circuit that run side by side on disjoint qubits; `auto` chooses.
        layouts: Transpiler runs with different seeds, of which the best is kept.
        max_qpu_seconds: Cap of all rounds and layers together; None for none.
        max_execution_seconds: Time after which the service stops a job.
        mitigation: Error mitigation; a name stands for what `mitigation_of` returns.
        service: A plugin's service that executes; absent: the backend's own.
        rep_delay_us: Microseconds between two executions, within the device's range: the largest part of the
            price, but qubits that have no time to relax start wrongly; absent: the device's default.
        calibration_factor: Read-out errors and errors of two-qubit gates that have changed by more than this
            factor since the plan are told before anything is sent.
        device_rep_delay_us: The device's default when it was planned, which is priced; filled in by plans
            where it differs from `price.rep_delay_us`.
        use_fractional_gates: Whether circuits may use gates of any angle (rx, rzz) where the device has them.
        private: Whether the service deletes what it got when a job has ended, and a result when it was read.
        pilot: The job that goes first.
        limits: Bounds of one job.
        price: For the estimate of QPU seconds.
        patience: How the service is asked.
    """

    backend: str = Field(pattern=r"^\S+$")
    instance: str | None = None
    shots: Annotated[int, NoSwitch] = Field(1024, ge=1)
    seed: int = 0
    layers: tuple[str, ...] | None = None
    simulator: Literal["exact", "aer"] = "exact"
    mode: Literal["batch", "job", "session"] = "batch"
    copies: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    layouts: int = Field(4, ge=1)
    max_qpu_seconds: float | None = Field(None, gt=0)
    max_execution_seconds: int | None = Field(None, ge=1)
    mitigation: Mitigation = Mitigation()
    service: str | None = None
    rep_delay_us: float | None = Field(None, ge=0)
    device_rep_delay_us: float | None = Field(None, ge=0)
    calibration_factor: float = Field(USUAL_FACTOR, ge=1)
    use_fractional_gates: bool = False
    private: bool = False
    pilot: Pilot = Pilot()
    limits: Limits = Limits()
    price: Price = Price()
    patience: Patience = Patience()

    @field_validator("mitigation", mode="before")
    @classmethod
    def _mitigation_by_name(cls, value: Any) -> Any:
        try:
            return mitigation_of(value) if isinstance(value, str) else value
        except HardwareError as error:
            raise ValueError(str(error)) from error

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out keys that are not used: plans stay as they were before these existed."""
        content: dict[str, Any] = handler(self)
        usual: dict[str, Any] = {"service": None, "rep_delay_us": None, "device_rep_delay_us": None}
        usual |= {"calibration_factor": USUAL_FACTOR, "use_fractional_gates": False}
        usual |= {"private": False, "pilot": Pilot().model_dump()}
        return {key: value for key, value in content.items() if key not in usual or value != usual[key]}

    @property
    def executed_shots(self) -> int:
        """Executions of every measured circuit and parameter set that are billed: twirling may round up."""
        divided = self.mitigation.division(self.shots)
        return self.shots if divided is None else divided[0] * divided[1]

    @property
    def delay_seconds(self) -> float:
        """Seconds between two executions, as they are priced."""
        given = (self.rep_delay_us, self.device_rep_delay_us, self.price.rep_delay_us)
        return next(one for one in given if one is not None) * 1e-6
