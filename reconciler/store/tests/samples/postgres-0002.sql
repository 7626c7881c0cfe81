-- Rows as the second migration can hold them. Never edited.

INSERT INTO leaders (repository_id, holder, name, epoch, until) VALUES (1, 'an earlier handle', '/home/chiffon (pid 7)', 3, to_timestamp(946684800));
