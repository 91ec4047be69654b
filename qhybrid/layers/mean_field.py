"""Classical twin of circuits of rotations: each qubit keeps a state of its own, and sees means of the others.

A product of one-qubit states is a Bloch vector r_q = (<X>, <Y>, <Z>) a qubit. RX, RY and RZ turn it as in the
circuit. RZX(alpha) = exp(-i alpha/2 Z_a X_b) turns a about z by alpha <X_b>, and b about x by alpha <Z_a>:
the mean-field (time-dependent Hartree) rule, in which nothing is ever entangled. Values are those of the
circuit where all alpha are zero, and so are their first derivatives in each alpha there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qhybrid.circuits.spec import CircuitSpec

_AXES = {"rx": 0, "ry": 1, "rz": 2}
_COUPLING = "rzx"
_LETTERS = {"X": 0, "Y": 1, "Z": 2}


@dataclass(frozen=True)
class _Step:
    """Gates of one kind on different qubits.

    Attributes:
        gate: `rx`, `ry`, `rz` or `rzx`.
        first: Their qubits; of pairs the first ones.
        second: Of pairs the second ones.
        of_input: Whether their angles are inputs.
        angles: Places of their angles among the inputs, or among the weights.
    """

    gate: str
    first: tuple[int, ...]
    second: tuple[int, ...]
    of_input: bool
    angles: tuple[int, ...]


class MeanField(nn.Module):
    """The mean-field rule for a circuit of RX, RY, RZ and RZX whose observables are single Pauli letters.

    Attributes:
        weight: As many numbers as the circuit has, in its order, radians.
    """

    def __init__(self, spec: CircuitSpec) -> None:
        """Read gates and observables of a circuit; see `fits`."""
        super().__init__()
        self.qubits = spec.num_qubits
        self._steps = _steps_of(spec)
        self._read = [_letter_of(str(one.paulis[0])) for one in spec.observables]
        self.weight = nn.Parameter(torch.empty(spec.num_weights).uniform_(-1, 1))

    @staticmethod
    def fits(spec: CircuitSpec) -> bool:
        """Return whether a circuit has such gates and observables alone."""
        known = dict.fromkeys((*spec.input_params, *spec.weight_params))
        for instruction in spec.circuit.data:
            gate = instruction.operation
            if gate.name == "barrier":
                continue
            if gate.name not in (*_AXES, _COUPLING) or gate.params[0] not in known:
                return False
        return all(
            len(one) == 1
            and complex(one.coeffs[0]) == 1
            and str(one.paulis[0]).count("I") == len(one.paulis[0]) - 1
            for one in spec.observables
        )

    def forward(self, angles: Tensor) -> Tensor:
        """Map input angles (B, n_in) in radians to values (B, n_obs) in [-1, 1]."""
        vectors = [angles.new_zeros(len(angles), self.qubits) for _ in range(2)]
        vectors.append(angles.new_ones(len(angles), self.qubits))
        weights = self.weight.to(angles.dtype)
        for step in self._steps:
            turn = angles[:, step.angles] if step.of_input else weights[list(step.angles)]
            first = list(step.first)
            if step.gate != _COUPLING:
                vectors = _turned(vectors, _AXES[step.gate], first, turn)
                continue
            second = list(step.second)
            about_z, about_x = turn * vectors[0][:, second], turn * vectors[2][:, first]
            vectors = _turned(_turned(vectors, 2, first, about_z), 0, second, about_x)
        return torch.stack([vectors[letter][:, qubit] for letter, qubit in self._read], dim=1)


def _turned(vectors: list[Tensor], axis: int, qubits: list[int], angle: Tensor) -> list[Tensor]:
    """Return Bloch vectors, each part (B, qubits), those of some qubits turned about an axis."""
    one, other = (axis + 1) % 3, (axis + 2) % 3
    at = torch.tensor(qubits, device=vectors[0].device)
    a, b = vectors[one][:, qubits], vectors[other][:, qubits]
    found = list(vectors)
    found[one] = vectors[one].index_copy(1, at, a * angle.cos() - b * angle.sin())
    found[other] = vectors[other].index_copy(1, at, a * angle.sin() + b * angle.cos())
    return found


def _steps_of(spec: CircuitSpec) -> list[_Step]:
    """Return a circuit's gates, those side by side of one kind as one step."""
    inputs = {parameter: place for place, parameter in enumerate(spec.input_params)}
    weights = {parameter: place for place, parameter in enumerate(spec.weight_params)}
    steps: list[_Step] = []
    for instruction in spec.circuit.data:
        gate = instruction.operation
        if gate.name == "barrier":
            continue
        parameter = gate.params[0]
        of_input = parameter in inputs
        place = inputs[parameter] if of_input else weights[parameter]
        qubits = [spec.circuit.find_bit(qubit).index for qubit in instruction.qubits]
        new = _Step(gate.name, (qubits[0],), tuple(qubits[1:]), of_input, (place,))
        _add(steps, new)
    return steps


def _add(steps: list[_Step], new: _Step) -> None:
    """Add a gate to the earliest step of its kind that it may join: no later step is on one of its qubits."""
    mine = {*new.first, *new.second}
    joined = None
    for number in range(len(steps) - 1, -1, -1):
        step = steps[number]
        if mine & {*step.first, *step.second}:
            break
        if (step.gate, step.of_input) == (new.gate, new.of_input):
            joined = number
    if joined is None:
        steps.append(new)
        return
    step = steps[joined]
    steps[joined] = _Step(
        step.gate,
        step.first + new.first,
        step.second + new.second,
        step.of_input,
        step.angles + new.angles,
    )


def _letter_of(label: str) -> tuple[int, int]:
    """Return axis and qubit of a label with one letter, such as IIXI: qubit 0 is its last letter."""
    (place,) = (place for place, letter in enumerate(label) if letter != "I")
    return _LETTERS[label[place]], len(label) - 1 - place
