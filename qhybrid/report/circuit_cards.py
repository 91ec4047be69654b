"""The circuits of a report: drawings, and counts as written and as devices run them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from markupsafe import Markup

from qhybrid.circuits.export import draw_svg
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.errors import QHybridError
from qhybrid.experiments.sweeps.engines import device_mapping
from qhybrid.layers import quantum_layers
from qhybrid.report.sources import RunSource
from qhybrid.report.svg import inline_svg

LARGEST_DRAWING = 20
"""Qubits of the largest circuit that is drawn."""
DRAWINGS = 900_000
"""Characters of all drawings together."""
_NOT_GATES = frozenset({"barrier", "delay", "measure"})


@dataclass(frozen=True)
class CountRow:
    """Counts of one form of a circuit.

    Attributes:
        form: `as written`, or the device.
        qubits: Number of qubits.
        one_qubit: Gates on one qubit.
        two_qubit: Gates on two qubits.
        depth: Longest chain of gates.
        gates: Gates by name, as text.
    """

    form: str
    qubits: int
    one_qubit: int
    two_qubit: int
    depth: int
    gates: str


@dataclass(frozen=True)
class CircuitCard:
    """One circuit.

    Attributes:
        name: Its name.
        used_by: Runs and layers that use it.
        inputs: Number of input angles.
        weights: Number of trained angles.
        observables: Number of read-outs.
        counts: As written, and routed.
        drawing: The drawing; empty if it is too large.
    """

    name: str
    used_by: str
    inputs: int
    weights: int
    observables: int
    counts: tuple[CountRow, ...]
    drawing: Markup


def circuit_cards(
    runs: Iterable[RunSource], devices: Iterable[str], seed: int = 0, largest: int = DRAWINGS
) -> list[CircuitCard]:
    """Return a card for every different circuit of some runs; runs that cannot be loaded are left out.

    Args:
        runs: The runs.
        devices: Devices that the circuits are counted on, too.
        seed: Decides the layouts.
        largest: Characters of all drawings together; circuits from there on are not drawn.
    """
    specs: dict[str, CircuitSpec] = {}
    users: dict[str, list[str]] = {}
    seen = set()
    for run in runs:
        model_key = str(run.recipe.model)
        if (run.name, model_key) in seen:
            continue
        seen.add((run.name, model_key))
        try:
            layers = quantum_layers(run.load_model())
        except QHybridError:
            continue
        for layer_name, layer in layers.items():
            specs.setdefault(layer.spec.fingerprint, layer.spec)
            users.setdefault(layer.spec.fingerprint, []).append(f"{run.name}: {layer_name}")
    cards: list[CircuitCard] = []
    for number, (key, spec) in enumerate(specs.items()):
        card = _card(spec, users[key], list(devices), seed, f"circuit{number}")
        largest -= len(card.drawing)
        cards.append(card if largest >= 0 else replace(card, drawing=Markup()))
    return cards


def _card(spec: CircuitSpec, users: list[str], devices: list[str], seed: int, name: str) -> CircuitCard:
    counts = [count_row("as written", spec)]
    for device in devices:
        try:
            counts.append(count_row(device, device_mapping(device, seed).route(spec).spec))
        except QHybridError:
            continue
    return CircuitCard(
        spec.name,
        ", ".join(dict.fromkeys(users)),
        spec.num_inputs,
        spec.num_weights,
        spec.num_observables,
        tuple(counts),
        _drawing(spec, name),
    )


def count_row(form: str, spec: CircuitSpec) -> CountRow:
    """Return the counts of a circuit."""
    sizes = [len(one.qubits) for one in spec.circuit.data if one.operation.name not in _NOT_GATES]
    gates = {str(k): int(v) for k, v in spec.circuit.count_ops().items() if k not in _NOT_GATES}
    text = ", ".join(f"{count} {gate}" for gate, count in sorted(gates.items(), key=lambda item: -item[1]))
    depth = int(spec.circuit.depth(lambda one: one.operation.name not in _NOT_GATES))
    return CountRow(form, len(spec.used_qubits), sizes.count(1), sizes.count(2), depth, text)


def _drawing(spec: CircuitSpec, name: str) -> Markup:
    if spec.num_qubits > LARGEST_DRAWING:
        return Markup()
    with tempfile.TemporaryDirectory() as folder:
        text = draw_svg(spec, Path(folder) / "circuit.svg", fold=28).read_text(encoding="utf-8")
    return inline_svg(text, name, f"Circuit {spec.name}")
