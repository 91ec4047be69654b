"""Engines execute circuits: `make_engine("exact")`, `make_engine("aer", method="statevector")`."""

from qhybrid.engines.aer import AerEngine
from qhybrid.engines.base import Engine
from qhybrid.engines.exact.engine import ExactEngine
from qhybrid.engines.make import list_engines, make_engine, register_engine
from qhybrid.engines.routed import RoutedEngine
from qhybrid.mitigations import DeviceForm, register_mitigation

__all__ = [
    "AerEngine",
    "DeviceForm",
    "Engine",
    "ExactEngine",
    "RoutedEngine",
    "list_engines",
    "make_engine",
    "register_engine",
    "register_mitigation",
]
