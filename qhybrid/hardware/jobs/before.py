"""What is to be known before anything is spent: the account's time, the device's state, its calibration."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qhybrid.circuits.transpile import usable_target
from qhybrid.devices import Device
from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.preparation import place_noise
from qhybrid.hardware.circuits.prepared import Copy
from qhybrid.hardware.jobs.context import JobContext
from qhybrid.hardware.jobs.reserving import ahead_seconds, unsent
from qhybrid.noise import NoiseProfile
from qhybrid.noise.sections import GateError

SMALLEST_RATE = 1e-3
"""Errors below this one are not compared: they are hardly measured."""


def check_budget(context: JobContext) -> None:
    """Refuse to queue jobs for which the account's instance has not time enough.

    Raises:
        HardwareError: If its time is used up, or less than the estimate.
    """
    if not context.service.paid:
        return
    budget = context.asked(context.service.budget)
    if budget.used_up:
        raise HardwareError(
            "The account's instance must have time left, but it is used up. Fix: wait for the next "
            "period, or use another instance; nothing was sent."
        )
    if budget.remaining_seconds is None:
        return
    ahead = context.expected_seconds()
    if ahead > budget.remaining_seconds:
        raise HardwareError(
            f"The account's instance must have time for the plan, but has {budget.remaining_seconds:g} s "
            f"left and about {ahead:.1f} s are to be sent, later rounds included. Fix: wait for the next "
            "period, or plan with fewer samples or shots, or another instance; nothing was sent."
        )
    waiting = context.in_flight_seconds()
    if ahead + waiting > budget.remaining_seconds:
        context.note(
            f"the instance has {budget.remaining_seconds:g} s left, and jobs that were sent before may take "
            f"{waiting:.1f} s of them: some of the {ahead:.1f} s that are to be sent may have to wait for "
            "the next period"
        )
    context.say(
        f"the instance has {budget.remaining_seconds:g} s left; about {ahead_seconds(context):g} s are "
        "to be sent, later rounds included"
    )


def check_before_sending(context: JobContext) -> None:
    """Compare the device of today with that of the plan.

    Raises:
        HardwareError: If qubits or couplings that the circuits use are out of order now.
        ServiceError: If the service does not answer.
    """
    found = context.asked(context.service.today)
    if found is None:
        return
    device, state = found
    if state:
        context.note(state)
    dead = sorted(_dead(context, device))
    if dead:
        raise HardwareError(
            f"All that the plan uses of {device.name} must be in order, but since it was made these have "
            f"gone out of order: {', '.join(dead)}. Fix: `qhybrid hardware remap PLAN` maps what was not "
            "sent to other qubits; nothing was sent."
        )
    moved = sorted(_moved(context, device))
    if moved:
        context.note(
            f"the calibration of {device.name} has moved since the plan by more than the factor "
            f"{context.settings.calibration_factor:g}: {', '.join(moved)}; its prediction holds no more; "
            "`qhybrid hardware remap PLAN` maps what was not sent yet anew"
        )


def _copies(context: JobContext) -> Iterator[Copy]:
    """Yield the copies of all circuits of layouts that are to be used."""
    layouts = {chunk.layout for chunk in unsent(context)} | {max(context.layouts)}
    for layout in sorted(layouts):
        for circuit in context.layouts[layout].values():
            yield from circuit.copies


def _pairs(copy: Copy) -> set[tuple[str, tuple[int, int]]]:
    """Return name and qubits of a copy's two-qubit gates, qubits as in its circuits."""
    return {
        (str(one.operation.name), (places[0], places[1]))
        for spec in copy.specs
        for one in spec.circuit.data
        if len(places := [spec.circuit.find_bit(qubit).index for qubit in one.qubits]) == 2
        and one.operation.name != "barrier"
    }


def _dead(context: JobContext, device: Device) -> set[str]:
    """Return what the circuits use and the device does not offer in order any more."""
    target = usable_target(device.target)
    dead = set()
    for copy in _copies(context):
        for qubit in copy.physical:
            if (qubit,) not in (target["measure"] or {(qubit,): None}):
                dead.add(f"qubit {qubit}")
        for name, places in _pairs(copy):
            where = tuple(copy.physical[place] for place in places)
            offered = target[name] if name in target.operation_names else {}
            if offered is not None and where not in offered:
                dead.add(f"{name} {where[0]} {where[1]}")
    return dead


def _moved(context: JobContext, device: Device) -> set[str]:
    """Return values that are further from those of the plan than the factor of the settings."""
    factor, today = context.settings.calibration_factor, NoiseProfile.from_backend(device)
    moved = set()
    for copy in _copies(context):
        now = place_noise(today, copy.physical, context.settings.mitigation)
        if copy.noise is None or now is None:
            continue
        for index, qubit in enumerate(copy.physical):
            rates = [sum(profile.readout(index)) / 2 for profile in (copy.noise, now)]
            if _far(rates[0], rates[1], factor):
                moved.add(f"read-out of qubit {qubit} {rates[0]:.2g} to {rates[1]:.2g}")
        for name, places in _pairs(copy):
            rates = [_infidelity(profile.gate_error(name, places)) for profile in (copy.noise, now)]
            if _far(rates[0], rates[1], factor):
                where = " ".join(str(copy.physical[place]) for place in places)
                moved.add(f"{name} {where} {rates[0]:.2g} to {rates[1]:.2g}")
    return moved


def _infidelity(error: GateError) -> float:
    """Return 1 - average fidelity of a two-qubit gate with its relaxation, as devices report it."""
    kept = 1.0
    for one in error.relaxations:
        if one is not None:
            us = one.ns / 1000
            kept *= (1 + math.exp(-us / one.t1_us) + 2 * math.exp(-us / one.t2_us)) / 4
    entangled = (1 - error.p) * kept + error.p / 16
    return 1 - (4 * entangled + 1) / 5


def _far(before: float, after: float, factor: float) -> bool:
    low, high = sorted(max(one, SMALLEST_RATE) for one in (before, after))
    return high > factor * low
