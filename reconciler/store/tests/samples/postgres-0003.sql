-- Rows as the third migration can hold them. Never edited.

INSERT INTO parked (id, at, agent, direction, reason, head, size) OVERRIDING SYSTEM VALUE VALUES (1, to_timestamp(1800000060), 'infra', 'from-agent', 'malformed: expected value at line 1 column 1', 'nonsense', 8);
