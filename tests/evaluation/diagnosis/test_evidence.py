"""Angles, their bounds and slopes, and shares, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from image_runs import CLASSIFIER, FILTER

from qhybrid.circuits import build_circuit
from qhybrid.evaluation import load_subject
from qhybrid.evaluation.diagnosis.evidence import angle_bound, describe_angles, gradients, output_std, turns
from qhybrid.evaluation.diagnosis.probe import LayerRecord
from qhybrid.evaluation.diagnosis.trials import output_shares
from qhybrid.models import build_model


def record(inputs):
    rows = torch.as_tensor(inputs, dtype=torch.float64)
    return (LayerRecord(rows[:, None], torch.zeros(len(rows), 1, 1)),)


def test_angles_that_never_change():
    found = describe_angles(record([[0.3, -2.0]] * 5), None, torch.ones(2))
    assert found["concentration"] == pytest.approx(1.0)
    assert found["std"] == 0.0
    assert found["arcs"] == pytest.approx(2 / 36)
    assert found["saturated"] is None
    assert (found["smallest"], found["largest"]) == (-2.0, 0.3)


def test_angles_all_around():
    around = 2 * math.pi * torch.arange(360, dtype=torch.float64)[:, None] / 360 + 0.001
    found = describe_angles(record(around), None, torch.ones(1))
    assert found["concentration"] == pytest.approx(0.0, abs=1e-12)
    assert found["arcs"] == 1.0
    assert found["histogram"] == pytest.approx([1 / 36] * 36)
    # Uniform on an interval of length L: its standard deviation is L / sqrt(12).
    assert found["std"] == pytest.approx(2 * math.pi / math.sqrt(12), rel=1e-3)


def test_a_factor_of_the_gate_counts_and_saturation_is_of_the_encoding():
    found = describe_angles(record([[1.0], [-0.99], [0.5], [0.0]]), 1.0, torch.tensor([math.pi]))
    assert found["largest"] == pytest.approx(math.pi)
    assert found["saturated"] == 0.5  # |x| above 0.95


def test_a_circuit_without_inputs_has_no_angles():
    assert describe_angles(record(torch.zeros(3, 0)), None, torch.ones(0)) is None


def test_slopes_of_gates():
    assert turns(build_circuit("qcq_filter", num_qubits=4)).tolist() == pytest.approx([math.pi] * 4)
    assert turns(build_circuit("hq_unet_qcnn", grid=2)).tolist() == [1.0] * 12
    # P(2 x) in the feature map; the products of both inputs are not linear in one.
    assert turns(build_circuit("qcq_classifier", num_qubits=2, reps=1)).tolist() == [2.0, 2.0]


def test_bounds_of_the_encodings():
    unet = build_model(
        {
            "name": "hq_unet",
            "in_channels": 1,
            "num_classes": 2,
            "patch_size": 16,
            "grid": 2,
            "angle_scale": 1.5,
        }
    )
    assert angle_bound(unet, "bottleneck.core") == 1.5
    section = {"name": "qcq_cnn", "in_channels": 1, "num_classes": 2, "image_size": [8, 8], "channels": [2]}
    bounded = build_model({**section, "latent": "tanh", "latent_scale": 0.7})
    assert angle_bound(bounded, CLASSIFIER) == 0.7
    assert angle_bound(build_model(section), CLASSIFIER) is None
    assert angle_bound(bounded, FILTER) is None


def test_spread_of_outputs():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(50, 3, 2, generator=generator)
    calls = (LayerRecord(torch.zeros(50, 3, 1), outputs),)
    expected = outputs.double().var(dim=0, correction=0).mean().sqrt()
    assert output_std(calls) == pytest.approx(float(expected))


def test_share_of_the_output_variance(known_run, tmp_path):
    """The logits of this run are linear in the output: all their variance passes the circuit."""
    subject = load_subject(known_run(), "best", "test", None, tmp_path)
    found = output_shares(subject, ("head.classifier.circuit",), None, 0, None)
    assert found["all"] == found["head.classifier.circuit"] == pytest.approx(1.0, abs=1e-4)


def test_gradients_of_older_runs_are_not_known(tmp_path):
    assert gradients(tmp_path, "a.layer") is None
    (tmp_path / "metrics.csv").write_text("epoch,gradient_weights a.layer\n1,0.5\n2,\n3,0.25\n")
    assert gradients(tmp_path, "a.layer") == {"weights": {"first": 0.5, "last": 0.25, "mean": 0.375}}
    assert gradients(tmp_path, "another") is None
