-- Messages of the bus that nobody could use: put aside with the reason, for a person to look at (R7).
CREATE TABLE parked (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    -- Whom it came from or was for.
    agent text NOT NULL,
    -- from-agent, to-agent
    direction text NOT NULL,
    reason text NOT NULL,
    -- Its beginning, as text.
    head text NOT NULL,
    -- Its whole size in bytes.
    size bigint NOT NULL
);

-- A grant names its order from now on. One that was never sent names none: its agent declines, and the claim is repeated.
UPDATE messages SET message = message || '{"order": ""}' WHERE message ->> 'type' = 'grant';
