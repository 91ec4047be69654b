"""Inference on devices: plan, submit, collect. Importing this package registers the engine `runtime`."""

from qhybrid.hardware.engine import RuntimeEngine

__all__ = ["RuntimeEngine"]
