"""Tiny frozen ViTs: of random weights, and saved as the pretrained ones are."""

from __future__ import annotations

import pytest
import torch
from tiny_vits import TINY


@pytest.fixture
def saved_vit(tmp_path):
    """Return a function that saves a tiny ViT of a kind, and returns model and folder."""
    transformers = pytest.importorskip("transformers")

    def save(kind="dinov2", name="tiny", seed=0, **changes):
        torch.manual_seed(seed)
        content = {key: value for key, value in TINY.items() if key != "model_type"}
        config = transformers.AutoConfig.for_model(kind, **{**content, **changes})
        model = transformers.AutoModel.from_config(config).eval()
        for norm in (part for part in model.modules() if isinstance(part, torch.nn.LayerNorm)):
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
            torch.nn.init.uniform_(norm.bias, -0.5, 0.5)
        model.save_pretrained(tmp_path / name)
        return model, tmp_path / name

    return save
