-- +goose Up
-- What is told to us of monitors that dial nobody.

-- One row per heartbeat: what its verdict follows from, and whom a URL belongs to.
CREATE TABLE heartbeats (
    monitor_id INTEGER NOT NULL PRIMARY KEY REFERENCES monitors (id) ON DELETE CASCADE,
    token_hash TEXT    NOT NULL UNIQUE,
    token      TEXT    NOT NULL,           -- sealed
    last_id    INTEGER NOT NULL DEFAULT 0, -- of the last ping that ended a run
    last_at    INTEGER NOT NULL DEFAULT 0,
    last_kind  INTEGER NOT NULL DEFAULT 0,
    last_exit  INTEGER NOT NULL DEFAULT 0,
    last_run   TEXT    NOT NULL DEFAULT '',
    runs       TEXT    NOT NULL DEFAULT '[]' -- JSON list of open runs
) STRICT;

CREATE TABLE pings (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    monitor_id INTEGER NOT NULL REFERENCES monitors (id) ON DELETE CASCADE,
    at         INTEGER NOT NULL,
    kind       INTEGER NOT NULL,
    exit_code  INTEGER NOT NULL,
    run        TEXT    NOT NULL,
    took_us    INTEGER NOT NULL,
    body       TEXT    NOT NULL
) STRICT;
CREATE INDEX pings_monitor ON pings (monitor_id, id);
CREATE INDEX pings_at ON pings (at);

-- Spans in which no process received pings.
CREATE TABLE deaf_spans (
    started_at INTEGER NOT NULL PRIMARY KEY,
    ended_at   INTEGER NOT NULL
) STRICT;

CREATE TABLE manual_states (
    monitor_id INTEGER NOT NULL PRIMARY KEY REFERENCES monitors (id) ON DELETE CASCADE,
    verdict    INTEGER NOT NULL,
    message    TEXT    NOT NULL,
    set_at     INTEGER NOT NULL,
    user_id    INTEGER NOT NULL
) STRICT;
