"""Shots in training: drawn as a function of (seed, epoch), so that a resumed run repeats them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from torch import nn

from qhybrid.config import EngineConfig, Recipe
from qhybrid.engines import make_engine
from qhybrid.layers import quantum_layers
from qhybrid.models import use_engine
from qhybrid.noise import load_profile
from qhybrid.seeding import derive_seed
from qhybrid.training.preparation import draws_shots
from qhybrid.training.ranks import place


def shots_callbacks(recipe: Recipe, model: nn.Module) -> list[Callback]:
    """Return what draws the shots of each epoch; nothing for a model or an engine without any."""
    present, asked = quantum_layers(model), recipe.engine.layers
    # What an arm of an ablation has replaced is no quantum layer any more.
    layers = None if asked is None else tuple(name for name in asked if name in present)
    drawn = bool(present) if layers is None else bool(layers)
    return [EpochShots(recipe.engine, layers)] if draws_shots(recipe.engine) and drawn else []


class EpochShots(Callback):
    """Puts the circuits on an engine of their own for each epoch, validation included.

    Resume states are those of complete epochs, so nothing random is left to be kept in them. It costs what
    compiling the circuits does: a twentieth of a second for a few qubits, a second for sixteen.
    """

    def __init__(self, engine: EngineConfig, layers: Sequence[str] | None = None) -> None:
        """Build the callback.

        Args:
            engine: The recipe's engine, with a seed.
            layers: Names of the quantum layers that it executes; all of them if absent.
        """
        self._arguments: dict[str, Any] = engine.arguments()
        if engine.noise is not None:
            self._arguments["noise"] = load_profile(engine.noise)  # once: the file may change meanwhile
        self._seed = engine.seed or 0
        self._layers = layers

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin the epoch's own sequence of shots."""
        # Aer takes seeds of 31 bits.
        rank = place().rank  # processes that share a batch must not share its random errors
        parts = (self._seed, "epoch", trainer.current_epoch, *(("rank", rank) if rank else ()))
        seed = derive_seed(*parts) % 2**31
        engine = make_engine(**{**self._arguments, "seed": seed})
        use_engine(pl_module.model, engine, self._layers)
