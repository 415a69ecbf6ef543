-- What the regular inspections found: the invariants of the books, and our phone numbers against the providers'. Every
-- process tells the monitoring of the last one, whichever made it.

-- +goose Up
CREATE TABLE inspections (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind     text NOT NULL CONSTRAINT inspections_kind CHECK (kind IN ('books', 'numbers')),
    began_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL CONSTRAINT inspections_order CHECK (ended_at >= began_at),
    -- How much is not as it should be, by its name; 0 for what was looked at and is.
    findings jsonb NOT NULL CONSTRAINT inspections_findings CHECK (jsonb_typeof(findings) = 'object')
);
CREATE INDEX inspections_by_kind ON inspections (kind, id);
CREATE INDEX inspections_by_age ON inspections (kind, ended_at);
COMMENT ON TABLE inspections IS 'no row-level security: counts over everybody, names no tenant and nothing of theirs';
GRANT SELECT, INSERT, DELETE ON inspections TO ringfence_system;
