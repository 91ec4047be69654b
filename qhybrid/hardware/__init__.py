"""Inference on devices: plan, submit, collect."""

from qhybrid.hardware.engine import RuntimeEngine
from qhybrid.hardware.services.backends import Backend, register_service
from qhybrid.hardware.services.interface import JobService

__all__ = ["Backend", "JobService", "RuntimeEngine", "register_service"]
