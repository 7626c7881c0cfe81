-- Messages of the bus that nobody could use: put aside with the reason, for a person to look at (R7).
CREATE TABLE parked (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    -- Whom it came from or was for.
    agent TEXT NOT NULL,
    -- from-agent, to-agent
    direction TEXT NOT NULL,
    reason TEXT NOT NULL,
    -- Its beginning, as text.
    head TEXT NOT NULL,
    -- Its whole size in bytes.
    size INTEGER NOT NULL
);

-- A grant names its order from now on. One that was never sent names none: its agent declines, and the claim is repeated.
UPDATE messages SET message = json_set(message, '$.order', '') WHERE message ->> 'type' = 'grant';
