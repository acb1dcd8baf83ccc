-- The registry of models. Times are microseconds since 1970, UTC. JSON is text: nothing in it is searched for.

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
-- Of everything that happened, of what servers follow, and of changes to what a list of versions shows.
INSERT INTO counters (name, value) VALUES ('event', 0), ('revision', 0), ('listing', 0);

CREATE TABLE versions (
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    backend TEXT NOT NULL,
    registered_at BIGINT NOT NULL,
    registered_by TEXT NOT NULL,
    metadata TEXT NOT NULL,
    settings TEXT NOT NULL,
    inputs TEXT NOT NULL,
    outputs TEXT NOT NULL,
    load_seconds DOUBLE PRECISION,
    memory_bytes BIGINT,
    loaded_backend TEXT,
    -- The value of the counter 'listing' when the row, or an alias of it, changed.
    changed BIGINT NOT NULL,
    PRIMARY KEY (model, version)
);
CREATE INDEX versions_by_change ON versions (changed);
CREATE INDEX versions_by_digest ON versions (digest);

-- What is large and not in a list.
CREATE TABLE contents (
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    manifest TEXT NOT NULL,
    card TEXT NOT NULL,
    PRIMARY KEY (model, version),
    FOREIGN KEY (model, version) REFERENCES versions (model, version) ON DELETE CASCADE
);

-- The names of versions that are gone mean what they meant.
CREATE TABLE removed_versions (
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    changed BIGINT NOT NULL,
    PRIMARY KEY (model, version)
);
CREATE INDEX removed_versions_by_change ON removed_versions (changed);

-- Content that is being put into the store and has no name yet.
CREATE TABLE leases (
    token TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    at BIGINT NOT NULL
);

CREATE TABLE aliases (
    model TEXT NOT NULL,
    alias TEXT NOT NULL,
    version TEXT NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (model, alias),
    FOREIGN KEY (model, version) REFERENCES versions (model, version)
);

-- Append-only. `number` is that of the event; `restores` that of the change which a rollback went back to.
CREATE TABLE alias_changes (
    number BIGINT PRIMARY KEY,
    model TEXT NOT NULL,
    alias TEXT NOT NULL,
    version TEXT,
    previous TEXT,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    restores BIGINT
);
CREATE INDEX alias_changes_by_alias ON alias_changes (model, alias, number);

-- Append-only.
CREATE TABLE events (
    number BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    model TEXT NOT NULL,
    version TEXT,
    kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    node TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX events_by_model ON events (model, number);
CREATE INDEX events_by_node ON events (model, node, at, number);

CREATE TABLE wanted (
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    mode TEXT NOT NULL,
    PRIMARY KEY (model, version),
    FOREIGN KEY (model, version) REFERENCES versions (model, version)
);

CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    hash TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    revoked_at BIGINT,
    revoked_by TEXT
);
