"""Tables of the ledger."""

VERSION = 2

TABLES = """
CREATE TABLE IF NOT EXISTS plans (
    plan TEXT PRIMARY KEY,
    created REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS requests (
    plan TEXT NOT NULL REFERENCES plans,
    sample INTEGER NOT NULL,
    layer TEXT NOT NULL,
    call INTEGER NOT NULL,
    round INTEGER NOT NULL,
    circuit TEXT NOT NULL,
    rows INTEGER NOT NULL,
    angles BLOB NOT NULL,
    points BLOB NOT NULL,
    PRIMARY KEY (plan, sample, layer, call)
) STRICT;
CREATE TABLE IF NOT EXISTS points (
    plan TEXT NOT NULL REFERENCES plans,
    number INTEGER NOT NULL,
    circuit TEXT NOT NULL,
    angles BLOB NOT NULL,
    PRIMARY KEY (plan, number),
    UNIQUE (plan, circuit, angles)
) STRICT;
CREATE TABLE IF NOT EXISTS chunks (
    plan TEXT NOT NULL REFERENCES plans,
    number INTEGER NOT NULL,
    round INTEGER NOT NULL,
    blocks TEXT NOT NULL,
    seconds REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'done', 'failed', 'cancelled', 'too_long')),
    PRIMARY KEY (plan, number)
) STRICT;
CREATE TABLE IF NOT EXISTS jobs (
    tag TEXT PRIMARY KEY,
    plan TEXT NOT NULL REFERENCES plans,
    chunk INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    state TEXT NOT NULL,
    id TEXT UNIQUE,
    empty_since REAL,
    reserved REAL,
    usage REAL,
    message TEXT NOT NULL DEFAULT '',
    UNIQUE (plan, chunk, attempt)
) STRICT;
CREATE TABLE IF NOT EXISTS duplicates (
    id TEXT PRIMARY KEY,
    plan TEXT NOT NULL REFERENCES plans,
    tag TEXT NOT NULL REFERENCES jobs,
    outcome TEXT NOT NULL,
    usage REAL
) STRICT;
CREATE TABLE IF NOT EXISTS results (
    plan TEXT NOT NULL REFERENCES plans,
    chunk INTEGER NOT NULL,
    id TEXT NOT NULL,
    received REAL NOT NULL,
    raw TEXT NOT NULL,
    PRIMARY KEY (plan, chunk)
) STRICT;
CREATE TABLE IF NOT EXISTS events (
    plan TEXT NOT NULL,
    time REAL NOT NULL,
    text TEXT NOT NULL
) STRICT;
"""
