-- Rows as the fourth migration can hold them. Never edited.

INSERT INTO enrolments (agent, invited, token, sealed, expires, enrolled, revoked, password_hash) VALUES ('infra', to_timestamp(1800000000), NULL, NULL, to_timestamp(1800086400), to_timestamp(1800000010), NULL, 'a hash');
INSERT INTO enrolments (agent, invited, token, sealed, expires, enrolled, revoked, password_hash) VALUES ('spare', to_timestamp(1800000000), 'a digest', 'sealed', to_timestamp(1800086400), NULL, NULL, 'another hash');
