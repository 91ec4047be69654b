"""The ring of docs/examples/ring, outside the package: as YAML and OpenQASM alone, and as a plugin."""

from __future__ import annotations

import re
import shutil
import sys
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
import torch
from qiskit.quantum_info import Statevector

from qhybrid import plugins
from qhybrid.circuits import CIRCUITS, build_circuit, list_circuits
from qhybrid.circuits.definition_files import CircuitDefinition
from qhybrid.circuits.definitions import build_resolved, circuit_origin, find_circuit, resolve_circuit
from qhybrid.errors import CircuitError
from qhybrid.layers import QuantumLayer
from qhybrid.plugins import loading

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "ring"


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace with the example files in circuits/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circuits").mkdir()
    for file in [*EXAMPLES.glob("*.yaml"), *EXAMPLES.glob("*.qasm")]:
        shutil.copy(file, tmp_path / "circuits")
    return tmp_path


@pytest.fixture
def plugin(monkeypatch):
    """The plugin, loaded as QHYBRID_PLUGINS does it, and unloaded afterwards."""
    monkeypatch.setattr(loading, "_PLUGINS", {})
    monkeypatch.setattr(loading, "_STATE", loading._State())
    monkeypatch.setattr(CIRCUITS, "_entries", dict(CIRCUITS._entries))
    monkeypatch.setattr(CIRCUITS, "_origins", dict(CIRCUITS._origins))
    monkeypatch.setenv(plugins.VARIABLE, str(EXAMPLES / "ring_plugin.py"))
    yield
    sys.modules.pop("ring_plugin", None)


def ring_values(inputs, weights, layers=2):
    """Return <Z> of every qubit, from 2 x 2 matrices on a state of shape (2,) * n: qubit q is axis q."""
    n = len(inputs)
    state = np.zeros((2,) * n, complex)
    state[(0,) * n] = 1
    for layer in range(layers):
        for qubit, angle in enumerate(inputs):
            c, s = np.cos(angle / 2), np.sin(angle / 2)
            state = np.moveaxis(np.tensordot([[c, -s], [s, c]], state, (1, qubit)), 0, qubit)
        for qubit in range(n):
            angle, target = weights[layer * n + qubit], (qubit + 1) % n
            c, s = np.cos(angle / 2), -1j * np.sin(angle / 2)
            on = [slice(None)] * n
            on[qubit] = slice(1, 2)
            turned = np.moveaxis(np.tensordot([[c, s], [s, c]], state[tuple(on)], (1, target)), 0, target)
            state[tuple(on)] = turned
    chance = abs(state) ** 2
    marginals = [chance.sum(axis=tuple(axis for axis in range(n) if axis != qubit)) for qubit in range(n)]
    return np.array([zero - one for zero, one in marginals])


@pytest.mark.parametrize("num_qubits", [4, 8])
def test_yaml_and_openqasm_alone_are_a_trainable_layer(workspace, num_qubits):
    spec = find_circuit(f"ring{num_qubits}")
    assert (spec.num_qubits, spec.num_inputs, spec.num_weights) == (num_qubits, num_qubits, 2 * num_qubits)
    random = np.random.default_rng(num_qubits)
    x, w = random.uniform(-3, 3, (2, num_qubits)), random.uniform(-3, 3, 2 * num_qubits)
    layer = QuantumLayer(spec).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(w))
    inputs = torch.tensor(x, requires_grad=True)
    values = layer(inputs)
    np.testing.assert_allclose(values.detach().numpy(), [ring_values(row, w) for row in x], atol=1e-10)
    angles = dict(zip([*spec.input_params, *spec.weight_params], [*x[0], *w]))
    state = Statevector(spec.circuit.assign_parameters(angles))
    by_qiskit = [state.expectation_value(one).real for one in spec.observables]
    np.testing.assert_allclose(values[0].detach().numpy(), by_qiskit, atol=1e-10)

    seen = random.uniform(-1, 1, num_qubits)
    (values[0] * torch.tensor(seen)).sum().backward()
    step = 1e-5
    for index in range(num_qubits):
        shift = step * np.eye(num_qubits)[index]
        slope = seen @ (ring_values(x[0] + shift, w) - ring_values(x[0] - shift, w)) / (2 * step)
        assert inputs.grad[0, index].item() == pytest.approx(slope, abs=1e-7)
    for index in range(2 * num_qubits):
        shift = step * np.eye(2 * num_qubits)[index]
        slope = seen @ (ring_values(x[0], w + shift) - ring_values(x[0], w - shift)) / (2 * step)
        assert layer.weight.grad[index].item() == pytest.approx(slope, abs=1e-7)


@pytest.mark.parametrize("num_qubits", [4, 8])
def test_the_plugin_is_the_same_circuit(workspace, plugin, num_qubits):
    from_file = find_circuit(f"ring{num_qubits}")
    assert build_circuit("ring", num_qubits=num_qubits).fingerprint == from_file.fingerprint


def test_the_plugins_circuit_is_known_by_name_and_in_files(workspace, plugin):
    assert "ring" in list_circuits()
    assert circuit_origin("ring") == "builder ring (plugin ring_plugin 1.0)"
    content = resolve_circuit("ring6")
    assert content["arguments"] == {"num_qubits": 6, "layers": 3}
    assert build_resolved(content).num_weights == 18
    assert build_circuit("ring6", layers=1).num_weights == 6
    assert plugins.loaded_plugins()[0]["adds"] == {"circuit": ["ring"]}


def test_without_the_plugin_its_file_says_so_and_the_others_work(workspace):
    with pytest.raises(CircuitError, match=r"ring6\.yaml: circuit 'ring' is unknown"):
        find_circuit("ring6")
    assert find_circuit("ring4").num_qubits == 4


def test_the_guide_names_all_keys_and_shows_the_example(workspace):
    guide = (EXAMPLES.parents[1] / "circuits.md").read_text()
    block = guide.split("```yaml\n", 1)[1].split("```", 1)[0]
    (workspace / "circuits" / "shown.yaml").write_text(block)
    assert find_circuit("shown").fingerprint == find_circuit("ring4").fingerprint
    rows = guide[guide.index("\n| `") + 1 :].splitlines()  # the guide's first table
    table = "".join(line.split("|")[1] for line in takewhile(lambda line: line.startswith("| `"), rows))
    assert set(re.findall(r"`(\w+)`", table)) == set(CircuitDefinition.model_fields)
