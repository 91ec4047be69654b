"""Inference on devices: plan, submit, collect."""

from qhybrid.hardware.engine import RuntimeEngine
from qhybrid.hardware.service_kinds import ServiceRules, register_service
from qhybrid.hardware.services.interface import Backend, JobService

__all__ = ["Backend", "JobService", "RuntimeEngine", "ServiceRules", "register_service"]
