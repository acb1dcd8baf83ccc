-- What clients may leave out of a version's inputs, as JSON, since a server has loaded it; NULL where none has since.

ALTER TABLE versions ADD COLUMN contract TEXT;
