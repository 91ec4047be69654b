"""Recipes: what a YAML file in `runs/` may say, checked strictly."""

from qhybrid.config.reading import apply_overrides, load_recipe, read_yaml, to_yaml, validated
from qhybrid.config.sections import (
    AugmentationConfig,
    ClassConfig,
    DataConfig,
    EngineConfig,
    GrowingSection,
    LossConfig,
    PredictionConfig,
    Recipe,
    StrictModel,
    TrainingConfig,
)

__all__ = [
    "AugmentationConfig",
    "ClassConfig",
    "DataConfig",
    "EngineConfig",
    "GrowingSection",
    "LossConfig",
    "PredictionConfig",
    "Recipe",
    "StrictModel",
    "TrainingConfig",
    "apply_overrides",
    "load_recipe",
    "read_yaml",
    "to_yaml",
    "validated",
]
