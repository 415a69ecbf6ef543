-- Who may come in: organisations, users, memberships, sessions, failed sign-ins, and the audit log of everything.
--
-- Row-level security, once and for all tables that follow:
--   ringfence_app     sees only the organisations named by app.org_ids in this transaction (unset means none)
--                     (compared as text, so that the policy only filters and no plan walks an index of organisations
--                     because of it: queries name their organisation themselves, and find rows by their own keys)
--   ringfence_system  sees what sign-in, key look-up, sweepers and verify need, by a policy of its own on each table
--   ringfence_owner   owns the tables; its one policy lets verify count rows independently of the policies above
-- A table without tenant rows carries a comment that starts with 'no row-level security: ' and says why; a test holds it.

-- +goose Up
CREATE TABLE organizations (
    id         uuid PRIMARY KEY,
    name       text NOT NULL CONSTRAINT organizations_name_length CHECK (length(name) BETWEEN 1 AND 120),
    created_at timestamptz NOT NULL,
    CONSTRAINT organizations_name_unique UNIQUE (name)
);

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    -- Users are mapped by (issuer, subject), never by e-mail: the local provider's subject is the user's own id.
    issuer        text NOT NULL,
    subject       text NOT NULL,
    email         text NOT NULL CONSTRAINT users_email_lower CHECK (email = lower(email) AND length(email) <= 254),
    password_hash text,
    platform_role text CONSTRAINT users_platform_role CHECK (platform_role = 'operator'),
    created_at    timestamptz NOT NULL,
    disabled_at   timestamptz,
    CONSTRAINT users_identity_unique UNIQUE (issuer, subject)
);
-- Only the local provider signs in by e-mail, so only there must it be unique.
CREATE UNIQUE INDEX users_local_email_unique ON users (email) WHERE issuer = 'local';

CREATE TABLE memberships (
    org_id     uuid NOT NULL REFERENCES organizations,
    user_id    uuid NOT NULL REFERENCES users,
    role       text NOT NULL CONSTRAINT memberships_role CHECK (role IN ('owner', 'member', 'viewer')),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (org_id, user_id)
);
CREATE INDEX memberships_by_user ON memberships (user_id);

CREATE TABLE sessions (
    -- SHA-256 of the token in the cookie: whoever reads this table cannot sign in with it.
    token_hash   bytea PRIMARY KEY CONSTRAINT sessions_token_hash_length CHECK (octet_length(token_hash) = 32),
    user_id      uuid NOT NULL REFERENCES users,
    org_id       uuid REFERENCES organizations,
    created_at   timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    address      text NOT NULL,
    user_agent   text NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE login_failures (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- SHA-256 of 'account:<email>' or 'address:<ip>': what was typed into the e-mail box may be a password.
    subject bytea NOT NULL,
    at      timestamptz NOT NULL
);
CREATE INDEX login_failures_by_subject ON login_failures (subject, at);

CREATE TABLE audit_log (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             timestamptz NOT NULL,
    -- No foreign key: the log outlives what it tells of, and every movement of money would check the same row again.
    org_id         uuid,
    -- 'user:<id>', 'operator:<id>', 'stripe:<event>', 'system:<part>' or 'cli:<login>'.
    actor          text NOT NULL CONSTRAINT audit_log_actor CHECK (actor ~ '^(user|operator|stripe|system|cli):.'),
    action         text NOT NULL,
    subject        text NOT NULL,
    reason         text NOT NULL DEFAULT '',
    request_id     text NOT NULL DEFAULT '',
    transaction_id uuid,
    detail         jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_by_org ON audit_log (org_id, id);
CREATE INDEX audit_log_by_transaction ON audit_log (transaction_id) WHERE transaction_id IS NOT NULL;

-- Rights. What is not granted here cannot be done, whatever the code says.
GRANT SELECT ON organizations, memberships TO ringfence_app;
GRANT SELECT (id, email) ON users TO ringfence_app;
GRANT SELECT, INSERT ON audit_log TO ringfence_app;

GRANT SELECT, INSERT ON organizations TO ringfence_system;
GRANT SELECT, INSERT, DELETE ON memberships TO ringfence_system;
GRANT UPDATE (role) ON memberships TO ringfence_system;
GRANT SELECT, INSERT ON users TO ringfence_system;
GRANT UPDATE (password_hash, disabled_at, platform_role, email) ON users TO ringfence_system;
GRANT SELECT, INSERT, DELETE ON sessions TO ringfence_system;
GRANT UPDATE (last_seen_at, revoked_at, org_id) ON sessions TO ringfence_system;
GRANT SELECT, INSERT, DELETE ON login_failures TO ringfence_system;
GRANT SELECT, INSERT ON audit_log TO ringfence_system;

ALTER TABLE organizations ENABLE ROW LEVEL SECURITY;
ALTER TABLE organizations FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON organizations TO ringfence_app
    USING (id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system ON organizations TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON organizations FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE memberships ENABLE ROW LEVEL SECURITY;
ALTER TABLE memberships FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON memberships TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system ON memberships TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON memberships FOR SELECT TO ringfence_owner USING (true);

-- A tenant sees the users that are its members, and of those only id and e-mail (the grant above).
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
ALTER TABLE users FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON users FOR SELECT TO ringfence_app
    USING (EXISTS (SELECT FROM memberships m WHERE m.user_id = users.id));
CREATE POLICY system ON users TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON users FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE sessions FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON sessions TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON sessions FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE login_failures ENABLE ROW LEVEL SECURITY;
ALTER TABLE login_failures FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON login_failures TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON login_failures FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_log FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audit_log TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system ON audit_log TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON audit_log FOR SELECT TO ringfence_owner USING (true);
