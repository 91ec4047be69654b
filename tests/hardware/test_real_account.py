"""The check of the real service: `QHYBRID_IBM_DEVICE=ibm_NAME pytest -m ibm`; at most 10 QPU seconds."""

from __future__ import annotations

import os

import pytest

from qhybrid.hardware.service_kinds import rules_of
from qhybrid.hardware.settings import HardwareSettings

DEVICE = os.environ.get("QHYBRID_IBM_DEVICE", "")


@pytest.mark.ibm
@pytest.mark.skipif(not DEVICE, reason="QHYBRID_IBM_DEVICE names no device of an account")
def test_the_service_is_as_assumed():
    settings = HardwareSettings(backend=DEVICE)
    found = rules_of(settings).check_service(settings, print)
    assert [one for one in found if one.agrees is False] == []
