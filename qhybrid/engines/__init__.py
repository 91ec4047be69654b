"""Engines execute circuits: `make_engine("exact")`, `make_engine("aer", method="statevector")`."""

from qhybrid.engines.aer import AerEngine
from qhybrid.engines.base import Engine
from qhybrid.engines.exact.engine import ExactEngine
from qhybrid.engines.make import list_engines, make_engine, register_engine
from qhybrid.engines.routed import RoutedEngine

__all__ = [
    "AerEngine",
    "Engine",
    "ExactEngine",
    "RoutedEngine",
    "list_engines",
    "make_engine",
    "register_engine",
]

register_engine("exact", ExactEngine)
register_engine("aer", AerEngine)
register_engine("routed", RoutedEngine)
