-- The pull request of a request's plan branch, as its forge said last; NULL without a forge.
ALTER TABLE requests ADD COLUMN pull TEXT;

-- What was last written there, each by its digest, so that nothing is written twice. It says nothing of the request.
ALTER TABLE requests ADD COLUMN posted TEXT;
