"""Seeds as pure functions: the same parts always give the same seed, in any process and on any platform."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch


def derive_seed(*parts: int | str) -> int:
    """Hash any number of integers and strings to a seed.

    Args:
        *parts: For example ``(seed, "patch", epoch, index)``.

    Returns:
        An integer in [0, 2**63).
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in map(_plain, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _plain(part: Any) -> Any:
    """Return numbers and texts of NumPy as Python's own: they are the same seeds."""
    return part.item() if isinstance(part, np.integer | np.str_) else part


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """Return a NumPy generator seeded by `derive_seed(*parts)`."""
    return np.random.default_rng(derive_seed(*parts))


def torch_generator(*parts: int | str) -> torch.Generator:
    """Return a CPU torch generator seeded by `derive_seed(*parts)`."""
    return torch.Generator().manual_seed(derive_seed(*parts))
