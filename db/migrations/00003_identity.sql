-- Identity, whole: API keys, second factors, and sessions that an outside identity provider vouches for.

-- +goose Up
ALTER TABLE audit_log DROP CONSTRAINT audit_log_actor;
-- 'user:<id>', 'operator:<id>', 'key:<id>', 'stripe:<event>', 'system:<part>' or 'cli:<login>'.
ALTER TABLE audit_log ADD CONSTRAINT audit_log_actor CHECK (actor ~ '^(user|operator|key|stripe|system|cli):.');

ALTER TABLE sessions
    -- The password was right, the second factor is still to come: such a session opens nothing.
    ADD COLUMN pending boolean NOT NULL DEFAULT false,
    -- When the second factor was given in this session.
    ADD COLUMN factor_at timestamptz,
    -- What the outside provider gave us, its refresh token above all, sealed for this user. It never leaves the server.
    ADD COLUMN grant_sealed bytea,
    ADD COLUMN grant_expires_at timestamptz,
    -- Whoever renews the grant holds this lease meanwhile, so that two requests at once renew it once.
    ADD COLUMN grant_lease_until timestamptz,
    ADD CONSTRAINT sessions_grant_whole CHECK ((grant_sealed IS NULL) = (grant_expires_at IS NULL));
GRANT UPDATE (factor_at, grant_sealed, grant_expires_at, grant_lease_until) ON sessions TO ringfence_system;

CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    org_id       uuid NOT NULL REFERENCES organizations,
    name         text NOT NULL CONSTRAINT api_keys_name_length CHECK (length(name) BETWEEN 1 AND 80),
    -- The part of the key that is shown, and by which it is found.
    prefix       text NOT NULL CONSTRAINT api_keys_prefix_unique UNIQUE,
    -- SHA-256 of the whole key, of which 130 bits are random: whoever reads this table cannot use it.
    secret_hash  bytea NOT NULL CONSTRAINT api_keys_secret_hash_length CHECK (octet_length(secret_hash) = 32),
    scopes       text[] NOT NULL CONSTRAINT api_keys_scopes CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY[
                     'wallet:read', 'holds:write', 'messages:write', 'calls:write', 'numbers:read', 'numbers:write', 'knowledge:read']),
    created_by   uuid REFERENCES users, -- null: made at the command line, see the audit log
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz, -- written at most once a minute
    revoked_at   timestamptz
);
CREATE INDEX api_keys_by_org ON api_keys (org_id, created_at);

CREATE TABLE second_factors (
    user_id      uuid PRIMARY KEY REFERENCES users,
    -- The secret of RFC 6238, sealed for this user.
    sealed       bytea NOT NULL,
    created_at   timestamptz NOT NULL,
    confirmed_at timestamptz, -- null: shown, not yet proven, so it protects nothing
    -- The 30-second step of the last code that was taken; that one and older ones are refused.
    last_step    bigint NOT NULL DEFAULT 0
);

CREATE TABLE recovery_codes (
    user_id   uuid NOT NULL REFERENCES users,
    -- SHA-256 of the code. Its 80 random bits cannot be guessed back from it.
    code_hash bytea NOT NULL CONSTRAINT recovery_codes_hash_length CHECK (octet_length(code_hash) = 32),
    used_at   timestamptz,
    PRIMARY KEY (user_id, code_hash)
);

-- A tenant lists and revokes its keys, but cannot read what they are checked against.
GRANT SELECT (id, org_id, name, prefix, scopes, created_by, created_at, last_used_at, revoked_at) ON api_keys TO ringfence_app;
GRANT INSERT ON api_keys TO ringfence_app;
GRANT UPDATE (revoked_at) ON api_keys TO ringfence_app;
GRANT SELECT ON api_keys TO ringfence_system;
GRANT UPDATE (last_used_at) ON api_keys TO ringfence_system;
GRANT SELECT, INSERT, DELETE ON second_factors, recovery_codes TO ringfence_system;
GRANT UPDATE (sealed, created_at, confirmed_at, last_step) ON second_factors TO ringfence_system;
GRANT UPDATE (used_at) ON recovery_codes TO ringfence_system;

ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON api_keys TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system ON api_keys TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON api_keys FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE second_factors ENABLE ROW LEVEL SECURITY;
ALTER TABLE second_factors FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON second_factors TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON second_factors FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE recovery_codes ENABLE ROW LEVEL SECURITY;
ALTER TABLE recovery_codes FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON recovery_codes TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON recovery_codes FOR SELECT TO ringfence_owner USING (true);
