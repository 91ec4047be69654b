"""Number formats of training: how `training.precision` resolves on this machine."""

from __future__ import annotations

import torch

from qhybrid.config import Recipe

_NATIVE = ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16")


def with_resolved_precision(recipe: Recipe) -> Recipe:
    """Return the recipe with `bf16-if-native` replaced by what this machine can do.

    The run's own recipe then says what it was trained in, and a resumed run keeps it.
    """
    if recipe.training.precision != "bf16-if-native":
        return recipe
    native = native_bf16_gpu() if trains_on_gpu(recipe) else native_bf16_cpu()
    chosen = "bf16-mixed" if native else "32-true"
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"precision": chosen})})


def trains_on_gpu(recipe: Recipe) -> bool:
    """Return whether the recipe asks for a GPU, or takes one because there is one."""
    chosen = recipe.training.accelerator
    return chosen == "cuda" or (chosen == "auto" and torch.cuda.is_available())


def native_bf16_cpu() -> bool:
    """Return whether this processor has arithmetic for bf16; torch emulates it elsewhere, slowly."""
    found = torch.cpu.get_capabilities()
    return any(bool(found.get(name)) for name in _NATIVE)


def native_bf16_gpu() -> bool:
    """Return whether there is a GPU that has arithmetic for bf16."""
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
