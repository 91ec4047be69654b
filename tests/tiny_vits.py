"""The architecture of a frozen ViT that is small enough for tests."""

from __future__ import annotations

TINY = {
    "model_type": "dinov2",
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}
