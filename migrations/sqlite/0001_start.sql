-- Every key carries the repository, since one reconciler will watch several.
-- Times are seconds since 1970 in UTC; documents (plans, outcomes, details of events) are JSON texts.

CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- Rises with each rebuild; the first half of every fence.
    incarnation INTEGER NOT NULL,
    -- Rises with each grant; the second half of every fence.
    fence_counter INTEGER NOT NULL
);
INSERT INTO meta (id, incarnation, fence_counter) VALUES (1, 1, 0);

CREATE TABLE repositories (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- The tips as last seen (main, infra) or written (audit).
    main TEXT,
    infra TEXT,
    audit TEXT
);

CREATE TABLE requests (
    repository_id INTEGER NOT NULL REFERENCES repositories (id),
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    -- valid, invalid or absent.
    file TEXT NOT NULL,
    -- The blob; null where absent.
    oid TEXT,
    -- 1 to 5; 5 first.
    priority INTEGER NOT NULL,
    -- Why it can't be read; null where it can.
    findings TEXT,
    -- When this content was first seen.
    since INTEGER NOT NULL,
    -- The blob at the plan's path on main.
    plan_on_main TEXT,
    -- A new plan is wanted after this revision.
    replan_after INTEGER,
    -- A person's pause, as JSON.
    pause TEXT,
    -- The last planning without an offer, as JSON.
    unplanned TEXT,
    -- The last refusal, as JSON.
    refusal TEXT,
    -- Rises with every change of anything that belongs to the request.
    version INTEGER NOT NULL DEFAULT 1,
    -- The version at which nothing was left to do.
    settled INTEGER NOT NULL DEFAULT 0,
    -- An offer is open, a run goes on, or a pause holds: to be looked at in every tick.
    watched INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (repository_id, name)
) WITHOUT ROWID;
CREATE INDEX requests_active ON requests (repository_id, priority, since) WHERE version <> settled OR watched = 1;

-- Files of main under requests/ and plans/ that are not read and belong to no request.
CREATE TABLE refused_files (
    repository_id INTEGER NOT NULL REFERENCES repositories (id),
    -- As far as it can be shown.
    path TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (repository_id, path)
) WITHOUT ROWID;

CREATE TABLE offers (
    repository_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    plan_oid TEXT NOT NULL,
    plan TEXT NOT NULL,
    path TEXT NOT NULL,
    -- main when it was recorded.
    main TEXT,
    -- The commit of the plan branch that shows it.
    branch_commit TEXT,
    at INTEGER NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (repository_id, name, revision),
    FOREIGN KEY (repository_id, name) REFERENCES requests (repository_id, name)
) WITHOUT ROWID;
CREATE UNIQUE INDEX offers_one_open ON offers (repository_id, name) WHERE state = 'open';

CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    repository_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    plan_oid TEXT NOT NULL,
    plan TEXT NOT NULL,
    plan_path TEXT NOT NULL,
    -- Who approved, as JSON.
    approval TEXT NOT NULL,
    approved_at INTEGER NOT NULL,
    round INTEGER NOT NULL,
    cancel INTEGER NOT NULL,
    -- Null while it goes on.
    state TEXT,
    finished_at INTEGER,
    voided INTEGER NOT NULL,
    FOREIGN KEY (repository_id, name) REFERENCES requests (repository_id, name)
) WITHOUT ROWID;
CREATE INDEX runs_of_request ON runs (repository_id, name, id);

CREATE TABLE attempts (
    run_id TEXT NOT NULL REFERENCES runs (id),
    step TEXT NOT NULL,
    number INTEGER NOT NULL,
    round INTEGER NOT NULL,
    -- The playbook, so that past durations are found by it.
    playbook TEXT NOT NULL,
    -- Sorted, as JSON.
    hosts TEXT NOT NULL,
    state TEXT NOT NULL,
    agent TEXT NOT NULL,
    boot TEXT,
    fence_incarnation INTEGER,
    fence_counter INTEGER,
    since INTEGER NOT NULL,
    outcome TEXT,
    -- The last report that is stored, without a gap before it.
    last_seq INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run_id, step, number)
) WITHOUT ROWID;
CREATE INDEX attempts_by_playbook ON attempts (playbook, since);
CREATE UNIQUE INDEX attempts_fence ON attempts (fence_incarnation, fence_counter) WHERE fence_counter IS NOT NULL;

-- Every state that an attempt ever had: a path of the allowed graph (R6).
CREATE TABLE attempt_states (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL,
    step TEXT NOT NULL,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    at INTEGER NOT NULL,
    FOREIGN KEY (run_id, step, number) REFERENCES attempts (run_id, step, number)
);
CREATE INDEX attempt_states_of ON attempt_states (run_id, step, number, id);

CREATE TABLE locks (
    repository_id INTEGER NOT NULL,
    host TEXT NOT NULL,
    request TEXT NOT NULL,
    run_id TEXT NOT NULL,
    step TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (repository_id, host),
    FOREIGN KEY (run_id, step, number) REFERENCES attempts (run_id, step, number)
) WITHOUT ROWID;

CREATE TABLE events (
    -- The order in which they happened.
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    repository_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    request TEXT,
    request_oid TEXT,
    plan TEXT,
    run TEXT,
    hosts TEXT NOT NULL,
    services TEXT NOT NULL,
    summary TEXT NOT NULL,
    detail TEXT NOT NULL,
    at INTEGER NOT NULL,
    -- The commit of the audit branch; null while it waits.
    audit_commit TEXT
);
CREATE INDEX events_waiting ON events (repository_id, seq) WHERE audit_commit IS NULL;
CREATE INDEX events_by_kind ON events (repository_id, kind, at);
CREATE INDEX events_by_time ON events (repository_id, at);
CREATE INDEX events_by_request ON events (repository_id, request, seq);

CREATE TABLE event_hosts (
    host TEXT NOT NULL,
    event INTEGER NOT NULL REFERENCES events (seq),
    PRIMARY KEY (host, event)
) WITHOUT ROWID;
CREATE TABLE event_services (
    service TEXT NOT NULL,
    event INTEGER NOT NULL REFERENCES events (seq),
    PRIMARY KEY (service, event)
) WITHOUT ROWID;

-- Events are append-only: only the audit commit is written later, once.
CREATE TRIGGER events_never_change BEFORE UPDATE ON events
WHEN OLD.audit_commit IS NOT NULL OR NEW.id <> OLD.id OR NEW.kind <> OLD.kind OR NEW.detail <> OLD.detail
    OR NEW.summary <> OLD.summary OR NEW.at <> OLD.at OR NEW.repository_id <> OLD.repository_id
    OR NEW.request IS NOT OLD.request OR NEW.plan IS NOT OLD.plan OR NEW.run IS NOT OLD.run
    OR NEW.hosts <> OLD.hosts OR NEW.services <> OLD.services OR NEW.request_oid IS NOT OLD.request_oid
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_never_go BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

CREATE TABLE log_chunks (
    -- The order in which they were stored.
    position INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL,
    step TEXT NOT NULL,
    number INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (run_id, step, number, chunk)
);
CREATE INDEX log_chunks_of_run ON log_chunks (run_id, position);

-- The outbox of the bus.
CREATE TABLE messages (
    -- Never given out again: a late mark of an old message must not hit a new one.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    agent TEXT NOT NULL,
    message TEXT NOT NULL,
    at INTEGER NOT NULL
);

CREATE TABLE commands (
    id INTEGER PRIMARY KEY,
    repository_id INTEGER NOT NULL,
    command TEXT NOT NULL,
    at INTEGER NOT NULL,
    -- Null while it waits.
    answer TEXT
);
CREATE INDEX commands_waiting ON commands (repository_id, id) WHERE answer IS NULL;

CREATE TABLE agents (
    name TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    boot TEXT NOT NULL,
    heard INTEGER NOT NULL,
    ansible_core TEXT
) WITHOUT ROWID;
