"""Models by name: `build_model`, `build_for_engine`, `list_models`, `use_engine`."""

from qhybrid.models.build import build_for_engine, build_model, list_models, resolve_model, use_engine

__all__ = ["build_for_engine", "build_model", "list_models", "resolve_model", "use_engine"]
