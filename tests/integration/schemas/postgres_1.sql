CREATE TABLE {task} (
    id text COLLATE "C" PRIMARY KEY,
    queue text COLLATE "C" NOT NULL,
    priority integer NOT NULL,
    created_at timestamptz NOT NULL,
    func text COLLATE "C" NOT NULL,
    unique_key text COLLATE "C",
    schedule_id text COLLATE "C",
    status text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    claim_count integer NOT NULL,
    lease_token text COLLATE "C",
    due_at timestamptz,
    lost_leases integer NOT NULL,
    worker_id text COLLATE "C",
    cancel_requested boolean NOT NULL,
    waiting_for integer NOT NULL,
    expires_at timestamptz,
    progress double precision,
    error text,
    started_at timestamptz,
    finished_at timestamptz,
    has_children boolean NOT NULL DEFAULT false
) WITH (fillfactor = 75, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX {prefix}_task_ready ON {task} (queue, priority DESC, created_at, id)
    WHERE status = 'pending';
CREATE INDEX {prefix}_task_due ON {task} (queue, due_at) WHERE status = 'scheduled';
CREATE INDEX {prefix}_task_leased ON {task} (queue, due_at) WHERE status = 'running';
CREATE UNIQUE INDEX {prefix}_task_unique ON {task} (queue, unique_key)
    WHERE unique_key IS NOT NULL;
CREATE TABLE {history} (
    id text COLLATE "C" PRIMARY KEY,
    queue text COLLATE "C" NOT NULL,
    priority integer NOT NULL,
    created_at timestamptz NOT NULL,
    func text COLLATE "C" NOT NULL,
    unique_key text COLLATE "C",
    schedule_id text COLLATE "C",
    status text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    claim_count integer NOT NULL,
    lease_token text COLLATE "C",
    due_at timestamptz,
    lost_leases integer NOT NULL,
    worker_id text COLLATE "C",
    cancel_requested boolean NOT NULL,
    waiting_for integer NOT NULL,
    expires_at timestamptz,
    progress double precision,
    error text,
    started_at timestamptz,
    finished_at timestamptz
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX {prefix}_history_finished ON {history} (finished_at);
CREATE TABLE {payload} (id text COLLATE "C" PRIMARY KEY, data bytea NOT NULL) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE {dependency} (
    parent_id text COLLATE "C" NOT NULL,
    child_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (parent_id, child_id)
);
CREATE INDEX {prefix}_dependency_child ON {dependency} (child_id);
CREATE TABLE {paused} (queue text COLLATE "C" PRIMARY KEY);
CREATE TABLE {worker} (
    worker_id text COLLATE "C" PRIMARY KEY,
    lock_key bigint NOT NULL,
    missing_since timestamptz
);
CREATE TABLE {result} (
    task_id text COLLATE "C" PRIMARY KEY,
    claim_count integer NOT NULL,
    expires_at timestamptz,
    data bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX {prefix}_result_expires ON {result} (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE {event} (
    at timestamptz NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    task_id text COLLATE "C" NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    worker_id text COLLATE "C",
    message text,
    details json,
    PRIMARY KEY (at, seq)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX {prefix}_event_task ON {event} (task_id, at, seq);
CREATE TABLE {schedule} (
    id text COLLATE "C" PRIMARY KEY,
    status text COLLATE "C" NOT NULL,
    next_run_at timestamptz,
    run_count bigint NOT NULL,
    data bytea NOT NULL
);
CREATE INDEX {prefix}_schedule_ready ON {schedule} (next_run_at) WHERE status = 'active';
CREATE TABLE {meta} (key text PRIMARY KEY, value integer NOT NULL);
INSERT INTO {meta} VALUES ('schema_version', 1);
