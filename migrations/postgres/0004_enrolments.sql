-- Agents that were invited to the bus. Who holds the invitation's token gets its credentials once; they lie here sealed with
-- a key that only the token holds.
CREATE TABLE enrolments (
    agent text PRIMARY KEY,
    invited timestamptz NOT NULL,
    -- SHA-256 of what names the invitation, in hexadecimal; NULL once it was used or taken back.
    token text UNIQUE,
    sealed text,
    -- The broker's own hash of its password, with which its user is made again on a broker that was emptied.
    password_hash text NOT NULL,
    expires timestamptz NOT NULL,
    enrolled timestamptz,
    revoked timestamptz
);

-- Attempts that are not over: of each agent, and altogether.
CREATE INDEX attempts_live ON attempts (agent, state) WHERE state IN ('ordered', 'claimed', 'granted', 'started');
