"""IBM's quantum service through the unmodified client of qiskit-ibm-runtime."""

from qhybrid.hardware.services.ibm.connection import list_service_devices
from qhybrid.hardware.services.ibm.service import IbmService

__all__ = ["IbmService", "list_service_devices"]
