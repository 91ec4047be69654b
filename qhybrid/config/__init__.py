"""Recipes: what a YAML file in `runs/` may say, checked strictly."""

from qhybrid.config.data_sections import AugmentationConfig, ClassConfig, DataConfig, VectorConfig
from qhybrid.config.reading import apply_overrides, load_recipe, read_yaml, to_yaml, validated
from qhybrid.config.sections import EngineConfig, LossConfig, PredictionConfig, Recipe, TrainingConfig
from qhybrid.config.strict import GrowingSection, StrictModel

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
    "VectorConfig",
    "apply_overrides",
    "load_recipe",
    "read_yaml",
    "to_yaml",
    "validated",
]
