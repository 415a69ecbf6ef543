-- What the regular verifications found: the invariants of the books, and our phone numbers against the providers'. Every
-- process tells the monitoring of the last one, whichever made it.

-- +goose Up
ALTER TABLE verifications
    ADD COLUMN kind text NOT NULL DEFAULT 'books' CONSTRAINT verifications_kind CHECK (kind IN ('books', 'numbers')),
    -- How much is not as it should be, by its name; 0 for what was looked at and is. Empty for those of before this column.
    ADD COLUMN findings jsonb NOT NULL DEFAULT '{}' CONSTRAINT verifications_findings CHECK (jsonb_typeof(findings) = 'object');
CREATE INDEX verifications_by_kind ON verifications (kind, id);
CREATE INDEX verifications_by_age ON verifications (at);
