CREATE TABLE {task} (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    func TEXT NOT NULL,
    unique_key TEXT,
    schedule_id TEXT,
    status TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    claim_count INTEGER NOT NULL,
    lease_token TEXT,
    due_at INTEGER,
    lost_leases INTEGER NOT NULL,
    worker_id TEXT,
    cancel_requested INTEGER NOT NULL,
    waiting_for INTEGER NOT NULL,
    progress REAL,
    error TEXT,
    started_at INTEGER,
    finished_at INTEGER,
    expires_at INTEGER
) STRICT;
CREATE TABLE {payload} (seq INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE INDEX {task}_ready ON {task} (queue, priority DESC, created_at, id)
    WHERE status = 'pending';
CREATE INDEX {task}_due ON {task} (queue, due_at) WHERE status = 'scheduled';
CREATE INDEX {task}_leased ON {task} (queue, due_at) WHERE status = 'running';
CREATE INDEX {task}_finished ON {task} (finished_at)
    WHERE finished_at IS NOT NULL;
CREATE UNIQUE INDEX {task}_unique ON {task} (queue, unique_key)
    WHERE unique_key IS NOT NULL AND finished_at IS NULL;
CREATE TABLE {dependency} (
    parent_id TEXT NOT NULL,
    child_id TEXT NOT NULL,
    PRIMARY KEY (parent_id, child_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX {dependency}_child ON {dependency} (child_id);
CREATE TABLE {paused} (queue TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE {result} (
    seq INTEGER PRIMARY KEY,
    task_id TEXT NOT NULL UNIQUE,
    claim_count INTEGER NOT NULL,
    expires_at INTEGER,
    data BLOB NOT NULL
) STRICT;
CREATE INDEX {result}_expires ON {result} (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE {event} (
    seq INTEGER PRIMARY KEY,
    task_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    at INTEGER NOT NULL,
    worker_id TEXT,
    message TEXT,
    details TEXT
) STRICT;
CREATE INDEX {event}_task ON {event} (task_id);
CREATE INDEX {event}_at ON {event} (at);
CREATE TABLE {schedule} (
    id TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    next_run_at INTEGER,
    run_count INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX {schedule}_ready ON {schedule} (next_run_at) WHERE status = 'active';
CREATE TABLE {meta} (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO {meta} VALUES ('schema_version', 1);
