-- The pull request of a request's plan branch, as its forge said last; NULL without a forge.
ALTER TABLE requests ADD COLUMN pull jsonb;
