"""Inference on devices: plan, submit, collect."""

from qhybrid.hardware.engine import RuntimeEngine

__all__ = ["RuntimeEngine"]
