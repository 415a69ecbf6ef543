-- Members by invitation, passwords that were forgotten, and letters to one address.

-- +goose Up
CREATE TABLE invitations (
    id          uuid PRIMARY KEY,
    org_id      uuid NOT NULL REFERENCES organizations,
    email       text NOT NULL CONSTRAINT invitations_email CHECK (email = lower(email) AND length(email) <= 254),
    role        text NOT NULL CONSTRAINT invitations_role CHECK (role IN ('owner', 'member', 'viewer')),
    -- SHA-256 of the token in the newest letter's link: whoever reads this table cannot accept with it.
    token_hash  bytea NOT NULL CONSTRAINT invitations_token_hash_length CHECK (octet_length(token_hash) = 32),
    invited_by  uuid NOT NULL REFERENCES users,
    created_at  timestamptz NOT NULL,
    -- When the newest letter was asked for, and until when its link holds.
    sent_at     timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    accepted_at timestamptz,
    accepted_by uuid REFERENCES users,
    revoked_at  timestamptz,
    CONSTRAINT invitations_token_hash_unique UNIQUE (token_hash),
    CONSTRAINT invitations_accepted_whole CHECK ((accepted_at IS NULL) = (accepted_by IS NULL)),
    CONSTRAINT invitations_one_end CHECK (accepted_at IS NULL OR revoked_at IS NULL)
);
-- One address has one open invitation to an organisation; one that ran out is open until it is sent again or revoked.
CREATE UNIQUE INDEX invitations_open_unique ON invitations (org_id, email) WHERE accepted_at IS NULL AND revoked_at IS NULL;
CREATE INDEX invitations_by_org ON invitations (org_id, id);
CREATE INDEX invitations_by_inviter ON invitations (invited_by) WHERE accepted_at IS NULL AND revoked_at IS NULL;

CREATE TABLE password_resets (
    id         uuid PRIMARY KEY,
    -- Null: the address that was typed is nobody's. The row is there all the same, so that asking costs the same.
    user_id    uuid REFERENCES users,
    token_hash bytea NOT NULL CONSTRAINT password_resets_token_hash_length CHECK (octet_length(token_hash) = 32),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz,
    CONSTRAINT password_resets_token_hash_unique UNIQUE (token_hash)
);
CREATE INDEX password_resets_by_user ON password_resets (user_id);
CREATE INDEX password_resets_by_expiry ON password_resets (expires_at);

-- A letter to one address, which its reader asked for, or somebody for them. What tells an organisation's people of their
-- money is in notice_mails.
CREATE TABLE personal_letters (
    id              uuid PRIMARY KEY, -- also its Message-ID
    kind            text NOT NULL CONSTRAINT personal_letters_kind CHECK (kind IN ('invitation', 'password_reset', 'password_changed')),
    -- Empty: to nobody, written so that asking costs the same whoever it is. Such a letter is dropped from the start.
    address         text NOT NULL,
    data            jsonb NOT NULL,
    -- The token that its link carries, sealed, until it has been sent.
    sealed_token    bytea,
    state           text NOT NULL CONSTRAINT personal_letters_state CHECK (state IN ('queued', 'sent', 'failed', 'dropped')),
    attempts        int NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    -- After this it would tell its reader nothing that still holds, and is dropped.
    expires_at      timestamptz NOT NULL,
    error           text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    CONSTRAINT personal_letters_ended CHECK ((ended_at IS NULL) = (state = 'queued')),
    CONSTRAINT personal_letters_forgotten CHECK (sealed_token IS NULL OR state = 'queued')
);
CREATE INDEX personal_letters_due ON personal_letters (next_attempt_at) WHERE state = 'queued';
CREATE INDEX personal_letters_by_expiry ON personal_letters (expires_at);

-- A tenant lists its invitations, but cannot read what a link is checked against.
GRANT SELECT (id, org_id, email, role, invited_by, created_at, sent_at, expires_at, accepted_at, accepted_by, revoked_at) ON invitations TO ringfence_app;
GRANT SELECT, INSERT ON invitations TO ringfence_system;
GRANT UPDATE (role, token_hash, sent_at, expires_at, accepted_at, accepted_by, revoked_at) ON invitations TO ringfence_system;
GRANT SELECT, INSERT, DELETE ON password_resets TO ringfence_system;
GRANT UPDATE (used_at) ON password_resets TO ringfence_system;
GRANT SELECT, INSERT, DELETE ON personal_letters TO ringfence_system;
GRANT UPDATE (state, attempts, next_attempt_at, error, ended_at, sealed_token) ON personal_letters TO ringfence_system;

ALTER TABLE invitations ENABLE ROW LEVEL SECURITY;
ALTER TABLE invitations FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON invitations TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system ON invitations TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON invitations FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE password_resets ENABLE ROW LEVEL SECURITY;
ALTER TABLE password_resets FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON password_resets TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON password_resets FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE personal_letters ENABLE ROW LEVEL SECURITY;
ALTER TABLE personal_letters FORCE ROW LEVEL SECURITY;
CREATE POLICY system ON personal_letters TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON personal_letters FOR SELECT TO ringfence_owner USING (true);
