-- The pull request of a request's plan branch, as its forge said last; NULL without a forge.
ALTER TABLE requests ADD COLUMN pull jsonb;

-- What was last written there, each by its digest, so that nothing is written twice. It says nothing of the request.
ALTER TABLE requests ADD COLUMN posted jsonb;
