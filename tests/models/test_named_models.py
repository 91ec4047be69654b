"""Named models stay what they are: keys of weights, resolved keys, initial weights and outputs.

The values in named_models.json were written before models were made of exchangeable parts. Old runs are
rebuilt from their meta.json, so none of them may change.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from qhybrid.models import build_model, resolve_model

PINNED = json.loads(Path(__file__).with_name("named_models.json").read_text(encoding="utf-8"))


def pins_of(given):
    """Return what must stay of a model: built from seed 7, run on images that are a fixed ramp."""
    torch.manual_seed(7)
    model = build_model(given).eval()
    state = model.state_dict()
    layout = "\n".join(f"{name} {list(value.shape)}" for name, value in state.items())
    size = given.get("image_size") or [given["patch_size"]] * 2
    shape = (2, given["in_channels"], *size)
    images = torch.arange(2 * given["in_channels"] * size[0] * size[1]).mul(0.37).sin().abs().reshape(shape)
    with torch.no_grad():
        logits = model(images).double().flatten()
    weights = torch.cat([value.double().flatten() for value in state.values()])
    ramp = torch.arange(len(weights), dtype=torch.float64).cos()
    return {
        "given": given,
        "resolved": resolve_model(given),
        "trained": sum(value.requires_grad for value in model.parameters()),
        "layout": hashlib.sha256(layout.encode()).hexdigest(),
        "weights": float(weights @ ramp),
        "logits": [*logits[:3].tolist(), float(logits @ torch.arange(len(logits)).double().cos())],
    }


@pytest.mark.parametrize("name", PINNED)
def test_named_models_stay(name):
    expected = PINNED[name]
    found = json.loads(json.dumps(pins_of(expected["given"])))
    for key in ("resolved", "layout", "trained"):
        assert found[key] == expected[key]
    assert list(found["resolved"]) == list(expected["resolved"])
    assert found["weights"] == pytest.approx(expected["weights"], rel=1e-6, abs=1e-6)
    assert found["logits"] == pytest.approx(expected["logits"], rel=1e-4, abs=1e-4)
