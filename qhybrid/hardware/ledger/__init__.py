"""The ledger: what was asked of a device, what was sent, and what came back, in one SQLite file."""

from qhybrid.hardware.ledger.records import Chunk, Duplicate, Job, Request
from qhybrid.hardware.ledger.store import LEDGER_FILE, Ledger

__all__ = ["LEDGER_FILE", "Chunk", "Duplicate", "Job", "Ledger", "Request"]
