"""The example of a mitigation plugin: by itself, and through sweep, report and hardware."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from image_runs import CLASSIFIER, make_image_run, mnist_root
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.cli.main import execute
from qhybrid.devices import load_device
from qhybrid.engines import make_engine
from qhybrid.engines.mitigation import mitigated_engine
from qhybrid.evaluation.subject.load import load_subject
from qhybrid.experiments.sweeps import read_results
from qhybrid.hardware.circuits.decoding import estimates_from, observables_from
from qhybrid.hardware.circuits.preparation import bound_circuit, prepare_circuit
from qhybrid.hardware.circuits.prepared import Pub
from qhybrid.hardware.circuits.simulation import Simulation
from qhybrid.hardware.model.requests import LayerCircuit
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.noise import NoiseProfile
from qhybrid.plugins import temporary_plugins

__all__ = ["make_image_run", "mnist_root"]
PLUGIN = Path(__file__).parents[2] / "docs" / "examples" / "mitigation" / "rescaling.py"
NOISE = NoiseProfile.depolarizing(p_1q=0.04, p_2q=0.1)
ANGLES = torch.tensor([[0.3], [1.2], [2.5]], dtype=torch.float64)
NONE = torch.zeros(0, dtype=torch.float64)


@pytest.fixture
def plugin():
    with temporary_plugins(PLUGIN):
        yield


def rotations():
    """RX(x / 2) twice: <Z> = cos(x), under depolarizing noise (1 - p)^2 cos(x); <Y> is 0 at x = 0."""
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    circuit.rx(x / 2, 0)
    circuit.rx(x / 2, 0)
    return CircuitSpec.from_circuit(circuit, [x], [], [SparsePauliOp("Z"), SparsePauliOp("Y")])


def test_it_is_exact_where_noise_shrinks_all_values_alike(plugin):
    def make(profile, _number):
        return make_engine("exact", noise=profile)

    engine = mitigated_engine("rescaling", make, NOISE)
    found = engine.expectations(rotations(), ANGLES, NONE)
    torch.testing.assert_close(found[:, 0], ANGLES[:, 0].cos())
    # The value at zero angles tells nothing about <Y>, which stays as it was read: with the noise of the
    # two gates of the circuit and of the two that turn Y into Z.
    torch.testing.assert_close(found[:, 1], -(0.96**4) * ANGLES[:, 0].sin())
    assert engine.describe()["mitigation"]["method"] == "rescaling"


def test_results_of_a_device_are_rescaled_by_its_calibration(plugin):
    settings = HardwareSettings(backend="fake_manila", layouts=1, copies=2, mitigation="rescaling")
    assert settings.mitigation.method == "rescaling"
    layer = LayerCircuit.of(rotations(), NONE)
    device = load_device("fake_manila")
    prepared = prepare_circuit("key", bound_circuit(layer), device, NOISE, settings)
    points = ANGLES.numpy()
    count = len(prepared.variants)
    pubs = [{"means": Simulation().means(Pub(prepared, index, points), None)} for index in range(count)]
    plain = settings.model_copy(
        update={"mitigation": HardwareSettings(backend="a", mitigation="none").mitigation}
    )
    noisy = observables_from(prepared, estimates_from(prepared, 3, pubs, plain).means)
    estimates = estimates_from(prepared, 3, pubs, settings)
    found = observables_from(prepared, estimates.means)
    exact = np.cos(points[:, 0])
    assert np.abs(noisy[:, 0] - exact).max() > 0.05
    np.testing.assert_allclose(found[:, 0], exact, atol=1e-9)
    # Errors grow as the values do.
    ratio = estimates.errors / estimates_from(prepared, 3, pubs, plain).errors
    np.testing.assert_allclose(ratio[:, 0], found[:, 0] / noisy[:, 0])


def test_sweep_report_and_hardware(make_image_run, mnist_root, tmp_path, capsys):
    run, out, page = make_image_run(), tmp_path / "sweep", tmp_path / "page.html"
    grid = {"profiles": ["depolarizing_0.05_0.1"], "mitigations": ["none", "rescaling"]}
    grids = [{**grid, "layers": [[CLASSIFIER]]}]
    file = tmp_path / "s.yaml"
    sweep = {"runs": [str(run)], "samples": 8, "grids": grids}
    file.write_text(yaml.safe_dump({"name": "s", "sweep": sweep}))
    data = ["--data-root", str(mnist_root)]
    report = ["report", str(out), str(run), "--output", str(page)]
    with temporary_plugins():
        ours = ["--plugin", str(PLUGIN)]
        assert execute([*ours, "sweep", str(file), "--jobs", "1", "--output", str(out), *data]) == 0
        check_cells(out, direct(run, mnist_root))
        device = ["--backend", "fake_manila", "--limit", "2", "--shots", "100", *data]
        quick = ["--set", "layouts=1", "--set", "copies=1", "--mitigation", "rescaling"]
        assert execute([*ours, "hardware", "run", str(run), *device, *quick]) == 0
        assert execute(report) == 0
        text = page.read_text()
        assert "Error mitigation: the shots" in text
        assert text.count("rescaled signal") > 2  # table, chart and plan
    (plan,) = (run / "hardware").glob("[!.]*/plan.json")
    content = json.loads(plan.read_text())
    assert content["settings"]["mitigation"]["method"] == "rescaling"
    assert "rescaling" in [one["name"] for one in content["plugins"]]
    # Without the plugin: results that are there can be reported, and a plan says what it lacks.
    assert execute(report) == 0
    assert "rescaled signal" not in page.read_text()
    assert "rescaling" in page.read_text()
    capsys.readouterr()
    assert execute(["hardware", "status", str(plan.parent)]) == 1
    said = capsys.readouterr().err
    assert f"--plugin {PLUGIN}" in said
    assert "mitigation `rescaling`" in said


def check_cells(out, expected):
    """Check the cells against the value without a sweep, and what is noted of their making."""
    table = read_results(out)
    values = table[table["metric"] == "cross_entropy"].set_index("mitigation")["value"]
    assert set(values.index) == {"none", "rescaling"}
    assert values["rescaling"] == pytest.approx(expected, abs=1e-6)
    assert values["none"] != pytest.approx(expected, abs=1e-6)
    cell = json.loads(next((out / "cells").glob("[!.]*.json")).read_text())
    assert "rescaling" in [one["name"] for one in cell["made_with"]["plugins"]]


def direct(run, root):
    """Return the cross-entropy with the mitigated engine, without a sweep."""
    profile = NoiseProfile.load(Path(__file__).parents[2] / "noise_profiles" / "depolarizing_0.05_0.1.yaml")
    subject = load_subject(str(run), "best", "test", 8, str(root))
    engine = mitigated_engine("rescaling", lambda noise, _: make_engine("exact", noise=noise), profile)
    subject.use(engine, [CLASSIFIER])
    return subject.evaluate().metrics["cross_entropy"]
