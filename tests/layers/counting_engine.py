"""An engine that notes how it is called."""

from __future__ import annotations

from qhybrid.engines import make_engine
from qhybrid.engines.base import Engine


class CountingEngine(Engine):
    """Hands every call on to another engine and keeps the numbers of rows."""

    kind = "counting"

    def __init__(self, **options) -> None:
        self.inner = make_engine("exact", **options)
        self.batches = []

    def expectations(self, spec, inputs, weights):
        self.batches.append(len(inputs))
        return self.inner.expectations(spec, inputs, weights)

    def describe(self):
        return self.inner.describe()
