"""Models by name: `build_model`, `list_models`, `use_engine`."""

from qhybrid.models.registry import build_model, list_models, resolve_model, use_engine

__all__ = ["build_model", "list_models", "resolve_model", "use_engine"]
