"""Looking at what is written to ledger files."""

from __future__ import annotations

import sqlite3


def watch_statements(callback):
    """Call back with every statement of connections that are opened from now on; for forked processes."""
    connect = sqlite3.connect

    def watched(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.set_trace_callback(callback)
        return connection

    sqlite3.connect = watched
