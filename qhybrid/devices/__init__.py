"""Devices: the target and the calibration of fake backends and of any other Qiskit backend."""

from qhybrid.devices.device import Device, GateCalibration, QubitCalibration
from qhybrid.devices.fakes import list_devices, load_device

__all__ = ["Device", "GateCalibration", "QubitCalibration", "list_devices", "load_device"]
