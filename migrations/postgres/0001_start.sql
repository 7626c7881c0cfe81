-- Every key carries the repository, since one reconciler will watch several. Ids of runs, events and agents' lives are
-- ULIDs, kept as the same 128 bits in a uuid, so that they sort by time.

CREATE TABLE meta (
    id smallint PRIMARY KEY CHECK (id = 1),
    -- Rises with each rebuild; the first half of every fence.
    incarnation bigint NOT NULL,
    -- Rises with each grant; the second half of every fence.
    fence_counter bigint NOT NULL
);
INSERT INTO meta (id, incarnation, fence_counter) VALUES (1, 1, 0);

CREATE TABLE repositories (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    -- The tips as last seen (main, infra) or written (audit).
    main text,
    infra text,
    audit text
);

CREATE TABLE requests (
    repository_id bigint NOT NULL REFERENCES repositories (id),
    name text NOT NULL,
    path text NOT NULL,
    file text NOT NULL CHECK (file IN ('valid', 'invalid', 'absent')),
    -- The blob; null where absent.
    oid text,
    -- 1 to 5; 5 first.
    priority smallint NOT NULL,
    -- Why it can't be read; null where it can.
    findings text,
    -- When this content was first seen.
    since timestamptz NOT NULL,
    -- The blob at the plan's path on main.
    plan_on_main text,
    -- A new plan is wanted after this revision.
    replan_after bigint,
    -- A person's pause.
    pause jsonb,
    -- The last planning without an offer.
    unplanned jsonb,
    -- The last refusal.
    refusal jsonb,
    -- Rises with every change of anything that belongs to the request.
    version bigint NOT NULL DEFAULT 1,
    -- The version at which nothing was left to do.
    settled bigint NOT NULL DEFAULT 0,
    -- An offer is open, a run goes on, or a pause holds: to be looked at in every tick.
    watched boolean NOT NULL DEFAULT false,
    PRIMARY KEY (repository_id, name)
);
CREATE INDEX requests_active ON requests (repository_id, priority DESC, since, name) WHERE version <> settled OR watched;

-- Files of main under requests/ and plans/ that are not read and belong to no request.
CREATE TABLE refused_files (
    repository_id bigint NOT NULL REFERENCES repositories (id),
    -- As far as it can be shown.
    path text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (repository_id, path)
);

CREATE TABLE offers (
    repository_id bigint NOT NULL,
    name text NOT NULL,
    revision bigint NOT NULL,
    plan_oid text NOT NULL,
    plan jsonb NOT NULL,
    path text NOT NULL,
    -- main when it was recorded.
    main text,
    -- The commit of the plan branch that shows it.
    branch_commit text,
    at timestamptz NOT NULL,
    state text NOT NULL,
    PRIMARY KEY (repository_id, name, revision),
    FOREIGN KEY (repository_id, name) REFERENCES requests (repository_id, name)
);
CREATE UNIQUE INDEX offers_one_open ON offers (repository_id, name) WHERE state = 'open';

CREATE TABLE runs (
    id uuid PRIMARY KEY,
    repository_id bigint NOT NULL,
    name text NOT NULL,
    plan_oid text NOT NULL,
    plan jsonb NOT NULL,
    plan_path text NOT NULL,
    -- Who approved, and how that is known.
    approval jsonb NOT NULL,
    approved_at timestamptz NOT NULL,
    round bigint NOT NULL,
    cancel boolean NOT NULL,
    -- Null while it goes on.
    state text,
    finished_at timestamptz,
    voided boolean NOT NULL,
    FOREIGN KEY (repository_id, name) REFERENCES requests (repository_id, name)
);
CREATE INDEX runs_of_request ON runs (repository_id, name, id);

CREATE TABLE attempts (
    run_id uuid NOT NULL REFERENCES runs (id),
    step text NOT NULL,
    number bigint NOT NULL,
    round bigint NOT NULL,
    -- The playbook, so that past durations are found by it.
    playbook text NOT NULL,
    -- Sorted.
    hosts text[] NOT NULL,
    state text NOT NULL,
    agent text NOT NULL,
    boot uuid,
    fence_incarnation bigint,
    fence_counter bigint,
    since timestamptz NOT NULL,
    outcome jsonb,
    -- The last report that is stored, without a gap before it.
    last_seq bigint NOT NULL DEFAULT 0,
    -- The last chunk of its log that is stored.
    last_chunk bigint NOT NULL DEFAULT -1,
    PRIMARY KEY (run_id, step, number)
);
CREATE INDEX attempts_by_playbook ON attempts (playbook, since);
CREATE UNIQUE INDEX attempts_fence ON attempts (fence_incarnation, fence_counter) WHERE fence_counter IS NOT NULL;

-- Every state that an attempt ever had: a path of the allowed graph (R6).
CREATE TABLE attempt_states (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid NOT NULL,
    step text NOT NULL,
    number bigint NOT NULL,
    state text NOT NULL,
    at timestamptz NOT NULL,
    FOREIGN KEY (run_id, step, number) REFERENCES attempts (run_id, step, number)
);
CREATE INDEX attempt_states_of ON attempt_states (run_id, step, number, id);

CREATE TABLE locks (
    repository_id bigint NOT NULL REFERENCES repositories (id),
    host text NOT NULL,
    request text NOT NULL,
    run_id uuid NOT NULL,
    step text NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (repository_id, host),
    FOREIGN KEY (run_id, step, number) REFERENCES attempts (run_id, step, number)
);
CREATE INDEX locks_of_run ON locks (run_id);

CREATE TABLE events (
    -- The order in which they happened: given out under the lock of the repository.
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    repository_id bigint NOT NULL REFERENCES repositories (id),
    kind text NOT NULL,
    request text,
    request_oid text,
    plan text,
    run uuid,
    hosts text[] NOT NULL,
    services text[] NOT NULL,
    summary text NOT NULL,
    detail jsonb NOT NULL,
    at timestamptz NOT NULL,
    -- The commit of the audit branch; null while it waits.
    audit_commit text
);
CREATE INDEX events_waiting ON events (repository_id, seq) WHERE audit_commit IS NULL;
CREATE INDEX events_by_kind ON events (repository_id, kind, at);
CREATE INDEX events_by_time ON events (repository_id, at);
CREATE INDEX events_by_request ON events (repository_id, request, seq);
CREATE INDEX events_by_run ON events (run, seq) WHERE run IS NOT NULL;

CREATE TABLE event_hosts (
    repository_id bigint NOT NULL,
    host text NOT NULL,
    event bigint NOT NULL REFERENCES events (seq),
    PRIMARY KEY (repository_id, host, event)
);
CREATE TABLE event_services (
    repository_id bigint NOT NULL,
    service text NOT NULL,
    event bigint NOT NULL REFERENCES events (seq),
    PRIMARY KEY (repository_id, service, event)
);

-- Events are append-only: only the audit commit is written later, once.
CREATE FUNCTION events_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.audit_commit IS NULL
        AND (to_jsonb(NEW) - 'audit_commit') = (to_jsonb(OLD) - 'audit_commit') THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'events are append-only';
END
$$;
CREATE TRIGGER events_never_change BEFORE UPDATE OR DELETE ON events
FOR EACH ROW EXECUTE FUNCTION events_are_append_only();
CREATE TRIGGER events_never_go BEFORE TRUNCATE ON events
FOR EACH STATEMENT EXECUTE FUNCTION events_are_append_only();

-- Old logs go by dropping whole partitions, one for each day; the adapter makes them as they are needed. Each chunk is
-- stored once: the lock of its attempt's row and `last_chunk` see to that.
CREATE SEQUENCE log_positions;
CREATE TABLE log_chunks (
    -- The order in which they were stored.
    position bigint NOT NULL DEFAULT nextval('log_positions'),
    run_id uuid NOT NULL,
    step text NOT NULL,
    number bigint NOT NULL,
    chunk bigint NOT NULL,
    text text NOT NULL,
    at timestamptz NOT NULL
) PARTITION BY RANGE (at);
CREATE INDEX log_chunks_of_run ON log_chunks (run_id, position);

-- The outbox of the bus.
CREATE TABLE messages (
    -- Never given out again: a late mark of an old message must not hit a new one.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent text NOT NULL,
    message jsonb NOT NULL,
    at timestamptz NOT NULL
);

CREATE TABLE commands (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    repository_id bigint NOT NULL REFERENCES repositories (id),
    command jsonb NOT NULL,
    at timestamptz NOT NULL,
    -- Null while it waits.
    answer jsonb
);
CREATE INDEX commands_waiting ON commands (repository_id, id) WHERE answer IS NULL;

CREATE TABLE agents (
    name text PRIMARY KEY,
    kind text NOT NULL,
    boot uuid NOT NULL,
    heard timestamptz NOT NULL,
    ansible_core text
);
