"""Engines are tested without what other tests have planned: many of these change how plans are made."""

from __future__ import annotations

import pytest

from qhybrid.engines.exact import kept_plans


@pytest.fixture(autouse=True)
def _own_plans(monkeypatch):
    monkeypatch.setattr(kept_plans, "MOST", 0)
    kept_plans._kept.clear()
