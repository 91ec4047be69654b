"""Plans of earlier versions, which knew modified gates by another hash, are collected and not paid again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from plan_cases import quick
from qiskit import QuantumCircuit
from qiskit.circuit import Gate, Parameter
from qiskit.quantum_info import SparsePauliOp
from torch import nn

from qhybrid.circuits import CircuitSpec
from qhybrid.circuits.modifiers import as_matrices
from qhybrid.errors import HardwareError
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome
from qhybrid.hardware.model.requests import LayerCircuit
from qhybrid.hardware.model.workload import Samples, Workload
from qhybrid.hardware.plan import planning
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.layers import QuantumLayer


def spec_of(phase):
    """<X> of the control after a controlled phase is cos(x + phase); the old hash ignores the phase."""
    inner = QuantumCircuit(1, global_phase=phase)
    inner.id(0)
    gate = Gate("phased", 1, [])
    gate.definition = inner
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.rz(x, 0)
    circuit.ry(w, 1)
    circuit.append(gate.control(1, annotated=True), [0, 1])
    return CircuitSpec.from_circuit(circuit, [x], [w], SparsePauliOp("IX"))


class Model(nn.Module):
    """One layer, and its value as the first of two logits."""

    def __init__(self, phase):
        super().__init__()
        self.layer = QuantumLayer(spec_of(phase))
        nn.init.constant_(self.layer.weight, 0.4)

    def forward(self, images):
        value = self.layer(images.flatten(1)[:, :1])
        return torch.cat([value, -value], dim=1)


def workload(phase):
    images = torch.tensor([0.3, -0.8]).reshape(2, 1, 1, 1)
    return Workload(Model(phase).eval(), Samples(images, torch.tensor([0, 1]), ("a", "b"), ("no", "yes")))


@pytest.fixture
def old_plan(tmp_path, monkeypatch):
    """A plan as an earlier version wrote it: the old key, and matrices for modified gates."""
    of = LayerCircuit.of

    def with_old_key(spec, weights):
        found = of(spec, weights)
        return replace(found, key=found.old_keys[0]) if found.old_keys else found

    def with_matrices(layer):
        given = layer.spec.given_bound(layer.weights.tolist())
        return replace(layer.bound(), circuit=as_matrices(given))

    with monkeypatch.context() as patch:
        patch.setattr(LayerCircuit, "of", staticmethod(with_old_key))
        patch.setattr(planning, "bound_circuit", with_matrices)
        return make_plan(workload(0.7), quick(shots=2000, backend="fake_manila"), tmp_path)


def test_the_phase_is_in_the_hash_and_was_not():
    first, second = spec_of(0.7), spec_of(-0.7)
    assert first.fingerprint != second.fingerprint
    assert first.old_fingerprints == second.old_fingerprints != (first.fingerprint,)
    flat = QuantumCircuit(1)
    flat.h(0)
    assert CircuitSpec.from_circuit(flat, [], [], SparsePauliOp("X")).old_fingerprints == ()


def test_an_old_plan_is_collected(old_plan):
    same = workload(0.7)
    with open_plan(old_plan, lambda *_: same) as execution:
        outputs = execution.run()
        jobs = len(execution.ledger.jobs())
        expected = np.cos(np.array([0.3, -0.8]) + 0.7)
        assert np.abs(outputs[:, 0].numpy() - expected).max() < 0.2
        assert write_outcome(execution, outputs)["observable_deviation_rms"] < 0.2
        assert torch.equal(execution.run(), outputs)
        assert len(execution.ledger.jobs()) == jobs


def test_an_old_plan_of_another_circuit_is_refused(old_plan):
    other = workload(-0.7)
    with open_plan(old_plan, lambda *_: other) as execution:
        with pytest.raises(HardwareError, match="execute the circuit that was recorded|is new"):
            execution.submit()
        assert not execution.ledger.jobs()
