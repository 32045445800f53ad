-- +goose Up
-- Instants are Unix microseconds, 0 for "never"; durations are microseconds; JSON is TEXT.
CREATE TABLE users (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    email         TEXT    NOT NULL UNIQUE,
    password_hash TEXT    NOT NULL,
    role          TEXT    NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id    INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    token_hash TEXT    NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_user ON sessions (user_id);

CREATE TABLE api_keys (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id      INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key_hash     TEXT    NOT NULL UNIQUE,
    name         TEXT    NOT NULL,
    prefix       TEXT    NOT NULL,
    scope        TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL DEFAULT 0,
    expires_at   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX api_keys_user ON api_keys (user_id);

CREATE TABLE attempt_counters (
    key          TEXT    NOT NULL PRIMARY KEY,
    window_start INTEGER NOT NULL,
    count        INTEGER NOT NULL
) STRICT;

CREATE TABLE idempotency (
    user_id     INTEGER NOT NULL,
    key         TEXT    NOT NULL,
    fingerprint TEXT    NOT NULL,
    status      INTEGER NOT NULL,
    body        TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (user_id, key)
) STRICT;

CREATE TABLE monitors (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    owner_id          INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name              TEXT    NOT NULL,
    type              TEXT    NOT NULL,
    target            TEXT    NOT NULL,
    interval_us       INTEGER NOT NULL,
    timeout_us        INTEGER NOT NULL,
    confirm_failures  INTEGER NOT NULL,
    confirm_interval  INTEGER NOT NULL,
    confirm_successes INTEGER NOT NULL,
    config            TEXT    NOT NULL, -- sealed
    assertions        TEXT    NOT NULL,
    inverted          INTEGER NOT NULL CHECK (inverted IN (0, 1)),
    regions           TEXT    NOT NULL, -- JSON list
    tags              TEXT    NOT NULL, -- JSON list, also in monitor_tags
    enabled           INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    revision          INTEGER NOT NULL,
    scheduled_since   INTEGER NOT NULL,
    problem           TEXT    NOT NULL DEFAULT '',
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL
) STRICT;
CREATE INDEX monitors_owner ON monitors (owner_id, id);

-- The schedules a monitor followed: its results are found by their slots.
CREATE TABLE monitor_schedules (
    monitor_id  INTEGER NOT NULL REFERENCES monitors (id) ON DELETE CASCADE,
    since       INTEGER NOT NULL,
    interval_us INTEGER NOT NULL,
    regions     TEXT    NOT NULL, -- JSON list
    PRIMARY KEY (monitor_id, since)
) STRICT, WITHOUT ROWID;

CREATE TABLE monitor_tags (
    monitor_id INTEGER NOT NULL REFERENCES monitors (id) ON DELETE CASCADE,
    tag        TEXT    NOT NULL,
    PRIMARY KEY (tag, monitor_id)
) STRICT;
CREATE INDEX monitor_tags_monitor ON monitor_tags (monitor_id);

CREATE TABLE channels (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    owner_id   INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name       TEXT    NOT NULL,
    type       TEXT    NOT NULL,
    config     TEXT    NOT NULL, -- sealed
    is_default INTEGER NOT NULL CHECK (is_default IN (0, 1)),
    enabled    INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    problem    TEXT    NOT NULL DEFAULT '',
    revision   INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX channels_owner ON channels (owner_id, id);

CREATE TABLE monitor_channels (
    monitor_id INTEGER NOT NULL REFERENCES monitors (id) ON DELETE CASCADE,
    channel_id INTEGER NOT NULL REFERENCES channels (id) ON DELETE CASCADE,
    PRIMARY KEY (monitor_id, channel_id)
) STRICT;
CREATE INDEX monitor_channels_channel ON monitor_channels (channel_id);

-- One row per monitor: the fold of its results, and the lock that serialises folding.
CREATE TABLE monitor_states (
    monitor_id INTEGER NOT NULL PRIMARY KEY REFERENCES monitors (id) ON DELETE CASCADE,
    verdict    INTEGER NOT NULL,
    reason     TEXT    NOT NULL,
    message    TEXT    NOT NULL,
    since      INTEGER NOT NULL,
    steady     INTEGER NOT NULL CHECK (steady IN (0, 1)),
    regions    TEXT    NOT NULL
) STRICT;
CREATE INDEX monitor_states_unsteady ON monitor_states (monitor_id) WHERE steady = 0;

CREATE TABLE regions (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO regions (id, name) VALUES (0, 'default');

-- One row per attempt, in order of time: see docs/decisions/0001. lag_us is from the
-- slot to the receipt of its job, wait_us from there to the probe's start. revision is
-- negative when the result was not evaluated, being late or of a former revision.
CREATE TABLE check_results (
    scheduled_at INTEGER NOT NULL,
    monitor_id   INTEGER NOT NULL,
    region_id    INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    kind         INTEGER NOT NULL,
    verdict      INTEGER NOT NULL,
    reason       TEXT    NOT NULL,
    revision     INTEGER NOT NULL,
    lag_us       INTEGER NOT NULL,
    wait_us      INTEGER NOT NULL,
    duration_us  INTEGER NOT NULL,
    dns_us       INTEGER NOT NULL,
    connect_us   INTEGER NOT NULL,
    tls_us       INTEGER NOT NULL,
    ttfb_us      INTEGER NOT NULL,
    transfer_us  INTEGER NOT NULL,
    PRIMARY KEY (scheduled_at, monitor_id, region_id, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX check_results_outside ON check_results (monitor_id, scheduled_at) WHERE kind <> 0;
CREATE INDEX check_results_failing ON check_results (monitor_id, scheduled_at) WHERE verdict <> 1;

CREATE TABLE check_evidence (
    scheduled_at INTEGER NOT NULL,
    monitor_id   INTEGER NOT NULL,
    region_id    INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    message      TEXT    NOT NULL,
    evidence     TEXT    NOT NULL,
    PRIMARY KEY (scheduled_at, monitor_id, region_id, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE rollups (
    monitor_id INTEGER NOT NULL,
    step       INTEGER NOT NULL, -- 3600 or 86400, seconds
    start      INTEGER NOT NULL,
    up         INTEGER NOT NULL,
    degraded   INTEGER NOT NULL,
    down       INTEGER NOT NULL,
    unknown    INTEGER NOT NULL,
    sum_us     INTEGER NOT NULL,
    histogram  TEXT    NOT NULL, -- JSON object: bucket number to count
    PRIMARY KEY (monitor_id, step, start)
) STRICT, WITHOUT ROWID;
CREATE INDEX rollups_step ON rollups (step, start);

CREATE TABLE gaps (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    monitor_id INTEGER NOT NULL, -- 0: every monitor
    region     TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER NOT NULL, -- 0 while it lasts
    cause      TEXT    NOT NULL,
    UNIQUE (monitor_id, region, started_at, cause)
) STRICT;

CREATE TABLE incidents (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    kind            TEXT    NOT NULL,
    monitor_id      INTEGER NOT NULL, -- 0: about ourselves
    owner_id        INTEGER NOT NULL,
    monitor_name    TEXT    NOT NULL,
    reason          TEXT    NOT NULL,
    message         TEXT    NOT NULL,
    last_good_at    INTEGER NOT NULL,
    first_bad_at    INTEGER NOT NULL,
    confirmed_at    INTEGER NOT NULL,
    notified_at     INTEGER NOT NULL DEFAULT 0,
    resolved_at     INTEGER NOT NULL DEFAULT 0,
    acknowledged_at INTEGER NOT NULL DEFAULT 0,
    acknowledged_by INTEGER NOT NULL DEFAULT 0,
    resolution      TEXT    NOT NULL DEFAULT '',
    opening         TEXT    NOT NULL DEFAULT '',
    recovery        TEXT    NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX incidents_one_open ON incidents (monitor_id) WHERE resolved_at = 0 AND kind = 'target';
CREATE UNIQUE INDEX incidents_one_open_self ON incidents (reason) WHERE resolved_at = 0 AND kind = 'self';
CREATE INDEX incidents_monitor ON incidents (monitor_id, first_bad_at);
CREATE INDEX incidents_owner ON incidents (owner_id, id);

CREATE TABLE incident_events (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    incident_id INTEGER NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    at          INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    user_id     INTEGER NOT NULL,
    text        TEXT    NOT NULL
) STRICT;
CREATE INDEX incident_events_incident ON incident_events (incident_id, id);

CREATE TABLE alerts (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    kind        TEXT    NOT NULL,
    incident_id INTEGER NOT NULL,
    monitor_id  INTEGER NOT NULL,
    owner_id    INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    routed_at   INTEGER NOT NULL DEFAULT 0,
    body        TEXT    NOT NULL
) STRICT;
CREATE INDEX alerts_unrouted ON alerts (id) WHERE routed_at = 0;

CREATE TABLE deliveries (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    alert_id     INTEGER NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    incident_id  INTEGER NOT NULL,
    channel_id   INTEGER NOT NULL, -- kept when the channel is deleted
    owner_id     INTEGER NOT NULL,
    key          TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    channel_name TEXT    NOT NULL,
    channel_type TEXT    NOT NULL,
    status       TEXT    NOT NULL,
    cause        TEXT    NOT NULL DEFAULT '',
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_at      INTEGER NOT NULL,
    lease_until  INTEGER NOT NULL DEFAULT 0,
    token        TEXT    NOT NULL DEFAULT '',
    created_at   INTEGER NOT NULL,
    done_at      INTEGER NOT NULL DEFAULT 0,
    UNIQUE (alert_id, channel_id)
) STRICT;
CREATE INDEX deliveries_due ON deliveries (next_at, id) WHERE status IN ('pending', 'sending');
CREATE INDEX deliveries_order ON deliveries (incident_id, channel_id, id);
CREATE INDEX deliveries_owner ON deliveries (owner_id, id);
CREATE INDEX deliveries_channel ON deliveries (channel_id, status);

CREATE TABLE delivery_attempts (
    delivery_id INTEGER NOT NULL REFERENCES deliveries (id) ON DELETE CASCADE,
    number      INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    finished_at INTEGER NOT NULL DEFAULT 0,
    outcome     TEXT    NOT NULL,
    peer        TEXT    NOT NULL DEFAULT '',
    code        INTEGER NOT NULL DEFAULT 0,
    excerpt     TEXT    NOT NULL DEFAULT '',
    provider_id TEXT    NOT NULL DEFAULT '',
    latency_us  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (delivery_id, number)
) STRICT;

CREATE TABLE events (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    at          INTEGER NOT NULL,
    owner_id    INTEGER NOT NULL,
    type        TEXT    NOT NULL,
    monitor_id  INTEGER NOT NULL DEFAULT 0,
    incident_id INTEGER NOT NULL DEFAULT 0,
    delivery_id INTEGER NOT NULL DEFAULT 0,
    verdict     TEXT    NOT NULL DEFAULT '',
    reason      TEXT    NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX events_at ON events (at);

CREATE TABLE leases (
    name       TEXT    NOT NULL PRIMARY KEY,
    holder     TEXT    NOT NULL,
    term       INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE progress (
    name TEXT    NOT NULL PRIMARY KEY,
    at   INTEGER NOT NULL
) STRICT;

-- +goose Down
SELECT 'a downgrade is not possible: restore the backup made before the upgrade';
