"""What the service's noise learner would find and bill, from the noise that the local service simulates.

Layers are taken from what the client sent. The twirled noise of a layer follows from Aer's model: errors of
its gates, and of the two pulses that twirl each qubit. Strings on one qubit and on neighbours are "measured"
at every depth, with errors of as many shots as were asked for, and rates are fitted to their decays.
"""

from __future__ import annotations

import math
import zlib
from itertools import product
from typing import Any

import numpy as np
from ibm_quantum_schemas.common import F64TensorModel
from ibm_quantum_schemas.noise_learner_v3.version_0_3 import (
    NoiseLearnerV3ResultModel,
    NoiseLearnerV3ResultsModel,
    ParamsModel,
)
from qiskit import QuantumCircuit
from qiskit.quantum_info import PTM, Clifford, Pauli
from qiskit_aer.noise import NoiseModel
from qiskit_ibm_runtime.noise_learner_v3.params_converters import NOISE_LEARNER_V3_PARAMS_CONVERTERS
from scipy.optimize import nnls

BASES = 9
READ = 0.95
"""Contrast of the read-out of a qubit: it does not decay, so learning does not depend on it."""


def is_learning(params: dict[str, Any]) -> bool:
    """Return whether a job learns noise."""
    return "instructions" in params


def layers_of(params: dict[str, Any]) -> list[tuple[tuple[int, ...], list[tuple[str, tuple[int, ...]]]]]:
    """Return the qubits of every layer, ascending, and its gates."""
    model = ParamsModel.model_validate({key: one for key, one in params.items() if key != "version"})
    instructions, _ = NOISE_LEARNER_V3_PARAMS_CONVERTERS["v0.3"].decoder(model)
    found = []
    for one in instructions:
        place = {inner: outer._index for inner, outer in zip(one.operation.body.qubits, one.qubits)}
        gates = [
            (gate.operation.name, tuple(place[q] for q in gate.qubits)) for gate in one.operation.body.data
        ]
        found.append((tuple(sorted(place.values())), gates))
    return found


def learning_bill(params: dict[str, Any], delay: float, target: Any, length: Any) -> tuple[int, float]:
    """Return executions and seconds without what every job takes."""
    options = params["options"]
    each = BASES * options["num_randomizations"] * options["shots_per_randomization"]
    executions, seconds = 0, 0.0
    for qubits, gates in layers_of(params):
        for pairs in options["layer_pair_depths"]:
            circuit = QuantumCircuit(target.num_qubits, len(qubits))
            for layer in range(2 * pairs + 1):
                for qubit in qubits:
                    for _ in range(2):
                        circuit.sx(qubit)
                circuit.barrier(qubits)
                if layer < 2 * pairs:
                    for name, pair in gates:
                        getattr(circuit, name)(*pair)
                    circuit.barrier(qubits)
            circuit.measure(list(qubits), range(len(qubits)))
            executions += each
            seconds += each * (delay + length(circuit, target))
    return executions, seconds


def learn(params: dict[str, Any], model: NoiseModel | None, pairs: set[tuple[int, int]]) -> str:
    """Return what is learned, as the service writes it.

    Args:
        params: What the client sent.
        model: The noise; None for none.
        pairs: Neighbours on the device, ascending.
    """
    options = params["options"]
    random = np.random.default_rng(zlib.crc32(str(params).encode()))
    shots = options["num_randomizations"] * options["shots_per_randomization"]
    data = []
    for qubits, gates in layers_of(params):
        own = sorted(pair for pair in pairs if set(pair) <= set(qubits))
        strings, rates = _learned(qubits, gates, own, model, options["layer_pair_depths"], shots, random)
        data.append(
            NoiseLearnerV3ResultModel(
                generators_sparse=[[string] for string in strings],
                num_qubits=len(qubits),
                rates=F64TensorModel.from_numpy(rates),
                rates_std=F64TensorModel.from_numpy(np.zeros(len(rates))),
                metadata={
                    "learning_protocol": "lindblad",
                    "post_selection": {"fraction_kept": {}, "success_rates": {}},
                },
            )
        )
    return NoiseLearnerV3ResultsModel(data=data).model_dump_json()


def _learned(qubits, gates, pairs, model, depths, shots, random):
    size, place = len(qubits), {qubit: index for index, qubit in enumerate(qubits)}
    strings = [(letter, [index]) for index in range(size) for letter in "XYZ"]
    strings += [(a + b, [place[p], place[q]]) for p, q in pairs for a, b in product("XYZ", repeat=2)]
    layer = QuantumCircuit(size)
    for name, pair in gates:
        getattr(layer, name)(*(place[qubit] for qubit in pair))
    clifford = Clifford(layer)
    paulis = [_pauli(string, size) for string in strings]
    partners = [_unsigned(one.evolve(clifford, frame="s")) for one in paulis]
    rows, decays = [], []
    for (letters, _), one, partner in zip(strings, paulis, partners):
        true = _fidelity(one, qubits, gates, model) * _fidelity(partner, qubits, gates, model)
        count = shots * (3 if len(letters) == 1 else 1)
        ideal = READ ** len(letters) * true ** np.asarray(depths, dtype=float)
        heads = random.binomial(count, (1 + ideal) / 2)
        seen = np.clip(2 * heads / count - 1, 1e-3, None)
        weights = seen / np.sqrt((1 - ideal**2).clip(1e-6) / count)
        slope = np.polyfit(depths, np.log(seen), 1, w=weights)[0]
        rows.append([_anti(one, other) + _anti(partner, other) for other in paulis])
        decays.append(max(-slope, 0.0) / 2)
    rates, _ = nnls(np.array(rows, dtype=float), np.array(decays))
    return strings, np.asarray(rates)


def _pauli(string: tuple[str, list[int]], size: int) -> Pauli:
    letters = ["I"] * size
    for letter, index in zip(*string):
        letters[index] = letter
    return Pauli("".join(reversed(letters)))


def _unsigned(one: Pauli) -> Pauli:
    return Pauli((one.z, one.x))


def _anti(one: Pauli, other: Pauli) -> int:
    return int(not one.commutes(other))


def _fidelity(one: Pauli, qubits, gates, model: NoiseModel | None) -> float:
    """Return what one layer leaves of a string: of the noise of its gates, and of two pulses a qubit."""
    if model is None:
        return 1.0
    letters = dict(zip(qubits, reversed(_unsigned(one).to_label())))
    found = 1.0
    for name, pair in gates:
        diagonal = error_diagonal(model, name, pair)
        found *= diagonal["IXYZ".index(letters[pair[0]]) + 4 * "IXYZ".index(letters[pair[1]])]
    turned = {"I": "I", "X": "X", "Y": "Z", "Z": "Y"}
    for qubit, letter in letters.items():
        diagonal = error_diagonal(model, "sx", (qubit,))
        found *= diagonal["IXYZ".index(letter)] * diagonal["IXYZ".index(turned[letter])]
    return float(found)


_DIAGONALS: dict[tuple[int, str, tuple[int, ...]], np.ndarray] = {}


def error_diagonal(model: NoiseModel, name: str, qubits: tuple[int, ...]) -> np.ndarray:
    """Return the diagonal of the transfer matrix of noise after a gate, first qubit fastest."""
    key = (id(model), name, qubits)
    if key not in _DIAGONALS:
        error = model._local_quantum_errors.get(name, {}).get(qubits)
        size = 4 ** len(qubits)
        _DIAGONALS[key] = (
            np.ones(size) if error is None else np.real(np.diag(PTM(error.to_quantumchannel()).data))
        )
    return _DIAGONALS[key]


def rms(values: Any) -> float:
    return math.sqrt(float(np.mean(np.square(values))))
