-- Rows as the third migration can hold them. Never edited.

INSERT INTO enrolments (agent, invited, token, sealed, expires, enrolled, revoked, password_hash) VALUES ('infra', 1800000000, NULL, NULL, 1800086400, 1800000010, NULL, 'a hash');
INSERT INTO enrolments (agent, invited, token, sealed, expires, enrolled, revoked, password_hash) VALUES ('spare', 1800000000, 'a digest', 'sealed', 1800086400, NULL, NULL, 'another hash');
