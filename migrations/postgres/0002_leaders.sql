-- Which reconciler acts for a repository: whoever renewed its lease last. A new one begins with another epoch, and what
-- an earlier one still tries to change is refused by it.
CREATE TABLE leaders (
    repository_id bigint PRIMARY KEY REFERENCES repositories (id),
    -- The handle that leads.
    holder text NOT NULL,
    -- Who that is, for people.
    name text NOT NULL,
    -- Rises whenever another one leads.
    epoch bigint NOT NULL,
    -- Until when nobody else may, by this server's clock.
    until timestamptz NOT NULL
);
