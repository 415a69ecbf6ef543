-- Vapi keeps the token of an imported number's account: a new one is told to it, number by number. A number that was proven to an
-- account which is gone since can be proven again.

-- +goose Up

-- Raised with every new token of the credential.
ALTER TABLE credentials ADD COLUMN version int NOT NULL DEFAULT 1 CONSTRAINT credentials_version CHECK (version > 0);
GRANT UPDATE (version) ON credentials TO ringfence_app;
GRANT SELECT (version) ON credentials TO ringfence_system;

ALTER TABLE numbers
    -- The version of its credential that Vapi has; 0: it is not known which.
    ADD COLUMN told_version    int NOT NULL DEFAULT 1 CONSTRAINT numbers_told_version CHECK (told_version >= 0),
    -- When Vapi is told of the newest; NULL: it has it. How often it was tried, why Vapi does not have it, as a sentence for
    -- people, and until when somebody has it in hand.
    ADD COLUMN tell_at         timestamptz,
    ADD COLUMN tell_tries      int NOT NULL DEFAULT 0,
    ADD COLUMN tell_note       text NOT NULL DEFAULT '',
    ADD COLUMN tell_busy_until timestamptz,
    ADD CONSTRAINT numbers_tells CHECK (tell_at IS NULL OR state = 'active');
CREATE INDEX numbers_to_tell ON numbers (tell_at) WHERE tell_at IS NOT NULL;
GRANT UPDATE (told_version, tell_at, tell_tries, tell_note, tell_busy_until) ON numbers TO ringfence_app;

GRANT UPDATE (account_sid, created_by, created_at) ON caller_ids TO ringfence_app;
