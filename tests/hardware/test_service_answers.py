"""Answers of the service as plain values: unknown stays unknown, and what is no answer is an error."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qhybrid.hardware.services.ibm.answers import (
    billed_of,
    budget_of,
    place_of,
    rep_delays_of,
    session_seconds_of,
    state_of,
)
from qhybrid.hardware.services.interface import Budget


def test_bills():
    assert billed_of({"usage": {"status": "done", "qpu_charge_time_seconds": 3, "quantum_seconds": 9}}) == 3.0
    assert billed_of({"usage": {"quantum_seconds": 2.5}}) == 2.5
    for unknown in ({}, {"usage": None}, {"usage": {"status": "pending", "quantum_seconds": 2}}):
        assert billed_of(unknown) is None
    for wrong in (-1, float("nan"), float("inf"), "much"):
        with pytest.raises(ValueError):
            billed_of({"usage": {"quantum_seconds": wrong}})
    assert session_seconds_of({"state": "closed", "elapsed_time": 17}) == 17.0
    assert session_seconds_of({"state": "open", "elapsed_time": 17}) is None
    never = {"state": "closed", "elapsed_time": None, "activated_at": None, "last_job_started": None}
    assert session_seconds_of(never) == 0.0
    assert session_seconds_of(never | {"activated_at": "2026-11-29T10:00:00Z"}) is None
    assert session_seconds_of({"state": "closed"}) is None


def test_budgets():
    assert budget_of({"usage_remaining_seconds": 5, "usage_limit_reached": False}) == Budget(5.0, False)
    assert budget_of({"usage_limit_reached": True}) == Budget(None, True)
    assert budget_of({"usage_remaining_seconds": -3}) == Budget(0.0, False)
    with pytest.raises(ValueError):
        budget_of({"usage_remaining_seconds": "much"})


def test_places_and_devices():
    assert place_of({"queue_position": 4, "estimated_running_time_seconds": 2}) == (4, 2.0)
    assert place_of({}) == (None, None)
    told = SimpleNamespace(
        default_rep_delay=250e-6, rep_delay_range=[0.0, 500e-6], dynamic_reprate_enabled=True
    )
    assert rep_delays_of(told) == (250.0, 0.0, 500.0)
    assert rep_delays_of(SimpleNamespace(default_rep_delay=250e-6)) is None
    assert state_of(SimpleNamespace(operational=True, status_msg="active")) == ""
    assert state_of(SimpleNamespace(operational=False, status_msg="")) == "not operational"
