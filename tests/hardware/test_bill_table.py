"""Part of the table of benchmarks/hardware_bill.py: what is billed is what was planned, within 1 %."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from ibm_service_bill import length
from qiskit import QuantumCircuit
from qiskit.circuit import Measure
from qiskit.circuit.library import CZGate, SXGate
from qiskit.transpiler import InstructionProperties, Target

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


SET_BY_TABLES = (
    "QISKIT_IBM_TOKEN", "QISKIT_IBM_URL", "QISKIT_IBM_INSTANCE", "QISKIT_IBM_CHANNEL", "IAM_URL",
    "GLOBAL_SEARCH_URL", "GLOBAL_CATALOG_URL", "USAGE_DATA_OPT_OUT",
)  # fmt: skip


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in SET_BY_TABLES:
        monkeypatch.setenv(name, "")  # put back afterwards


@pytest.fixture
def benchmark():
    return importlib.import_module("hardware_bill")


@pytest.mark.slow
def test_a_model_from_its_plan_to_its_results():
    """A row of benchmarks/hardware_end_to_end.py: through the client and Aer, and on the fake device."""
    table = importlib.import_module("hardware_end_to_end")
    rows = table.rows(["QCQ-CNN"], ["torino"], list(table.WAYS), "cheap", 256, 1)
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    (_, _, _, executions, planned, billed, deviation, shots), fake = cells
    assert (executions, planned) == (fake[3], fake[4])
    assert float(billed) == pytest.approx(float(planned), rel=0.01)
    # Two draws around one expectation, with the same shots.
    assert float(deviation) == pytest.approx(float(fake[6]), rel=0.5)
    assert 0.5 < float(deviation) / float(shots) < 2


def test_bills_are_prices(benchmark):
    """QCQ-CNN has both kinds of layers: a fixed filter, and a classifier that waits for it."""
    found = list(benchmark.rows(["QCQ-CNN"], ["fake_torino"], ["standard"], [65, 1024], samples=1))
    assert [row.shots for row in found] == [65, 1024]
    for row in found:
        assert row.jobs == 2
        assert row.billed[0] == row.planned[0]
        assert row.ratios[1] == pytest.approx(1, abs=0.01)
    assert found[1].billed[0] * 65 == found[0].billed[0] * 1024


def test_the_length_of_a_bill_is_the_longest_path():
    target = Target(num_qubits=2, dt=1e-9)
    target.add_instruction(SXGate(), {(q,): InstructionProperties(30e-9) for q in range(2)})
    target.add_instruction(CZGate(), {(0, 1): InstructionProperties(70e-9)})
    target.add_instruction(Measure(), {(q,): InstructionProperties(1e-6) for q in range(2)})
    circuit = QuantumCircuit(2, 2)
    circuit.sx(0)
    circuit.sx(0)
    circuit.sx(1)
    circuit.cz(0, 1)
    circuit.delay(100, 0, unit="dt")
    circuit.barrier()
    circuit.measure([0, 1], [0, 1])
    assert length(circuit, target) == pytest.approx(2 * 30e-9 + 70e-9 + 100e-9 + 1e-6)
