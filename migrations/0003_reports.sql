-- What a daily report said, and where its files are. No report had been written before this migration.

ALTER TABLE reports
    ADD COLUMN figures        jsonb NOT NULL,  -- all of them, as in report.json
    ADD COLUMN figures_sha256 text  NOT NULL,  -- another digest is another revision
    ADD COLUMN code_version   text  NOT NULL,  -- what wrote the files last
    ADD COLUMN place          text  NOT NULL,  -- the URL of the files' directory
    ADD CHECK (revision >= 1);
COMMENT ON TABLE reports IS 'daily reports, every revision; written once the files are there';
