-- What an organisation's people are to be told, kept in the transaction of what happened, and the mail that tells it.

-- +goose Up
CREATE TABLE notices (
    id           uuid PRIMARY KEY,
    org_id       uuid NOT NULL REFERENCES organizations,
    kind         text NOT NULL CONSTRAINT notices_kind CHECK (kind IN ('low_balance', 'topup_succeeded', 'topup_failed',
                     'card_attention', 'autotopup_ended', 'dispute_opened', 'dispute_closed', 'account_closed')),
    -- What it is about: one organisation, kind and subject are one notice.
    subject      text NOT NULL CONSTRAINT notices_subject_length CHECK (length(subject) BETWEEN 1 AND 255),
    data         jsonb NOT NULL,
    raised_at    timestamptz NOT NULL,
    -- When it was decided who gets it by mail; null until then.
    addressed_at timestamptz,
    CONSTRAINT notices_unique UNIQUE (org_id, kind, subject)
);
CREATE INDEX notices_by_org ON notices (org_id, id);
CREATE INDEX notices_unaddressed ON notices (raised_at) WHERE addressed_at IS NULL;

-- One letter to one person: what became of one kind of thing, once or several times.
CREATE TABLE notice_mails (
    id              uuid PRIMARY KEY, -- also its Message-ID, so that one sent twice can be known
    org_id          uuid NOT NULL REFERENCES organizations,
    user_id         uuid NOT NULL REFERENCES users,
    kind            text NOT NULL,
    notices         uuid[] NOT NULL CONSTRAINT notice_mails_about CHECK (cardinality(notices) > 0),
    -- dropped: its reader had left, or had switched it off, before it was sent.
    state           text NOT NULL CONSTRAINT notice_mails_state CHECK (state IN ('queued', 'sent', 'failed', 'dropped')),
    attempts        int NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    -- What the mail server said last, without addresses.
    error           text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    CONSTRAINT notice_mails_ended CHECK ((ended_at IS NULL) = (state = 'queued'))
);
CREATE INDEX notice_mails_due ON notice_mails (next_attempt_at) WHERE state = 'queued';

-- Whether a person wants mail about a kind of thing; without a row owners do, others do not.
CREATE TABLE notice_preferences (
    org_id  uuid NOT NULL REFERENCES organizations,
    user_id uuid NOT NULL REFERENCES users,
    kind    text NOT NULL,
    mail    boolean NOT NULL,
    PRIMARY KEY (org_id, user_id, kind)
);

-- The mark below which a balance is low, and on which side of it the wallet was when last looked at.
CREATE TABLE notice_marks (
    org_id    uuid PRIMARY KEY REFERENCES organizations,
    low_pence bigint NOT NULL DEFAULT 500 CONSTRAINT notice_marks_low CHECK (low_pence BETWEEN 0 AND 100000000),
    -- Null: not looked at yet.
    below     boolean,
    -- How often it fell below: the number of the newest crossing.
    crossings bigint NOT NULL DEFAULT 0
);

-- How far credits have been looked through.
CREATE TABLE notice_watermarks (
    what  text PRIMARY KEY,
    until timestamptz NOT NULL
);
COMMENT ON TABLE notice_watermarks IS 'no row-level security: how far the house has come, holds nothing of a tenant';
INSERT INTO notice_watermarks VALUES ('credits', now());

GRANT SELECT, INSERT ON notices TO ringfence_app;
GRANT SELECT, INSERT ON notices TO ringfence_system;
GRANT UPDATE (addressed_at) ON notices TO ringfence_system;
GRANT SELECT, INSERT ON notice_mails TO ringfence_system;
GRANT UPDATE (state, attempts, next_attempt_at, error, ended_at) ON notice_mails TO ringfence_system;
GRANT SELECT ON notice_mails TO ringfence_app;
GRANT SELECT, INSERT, UPDATE ON notice_preferences TO ringfence_app;
GRANT SELECT ON notice_preferences TO ringfence_system;
GRANT SELECT, INSERT ON notice_marks TO ringfence_app;
GRANT UPDATE (low_pence) ON notice_marks TO ringfence_app;
GRANT SELECT, INSERT, UPDATE ON notice_marks TO ringfence_system;
GRANT SELECT, UPDATE ON notice_watermarks TO ringfence_system;

ALTER TABLE notices ENABLE ROW LEVEL SECURITY;
ALTER TABLE notices FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notices TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system ON notices TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON notices FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE notice_mails ENABLE ROW LEVEL SECURITY;
ALTER TABLE notice_mails FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notice_mails TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system ON notice_mails TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON notice_mails FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE notice_preferences ENABLE ROW LEVEL SECURITY;
ALTER TABLE notice_preferences FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notice_preferences TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON notice_preferences FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON notice_preferences FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE notice_marks ENABLE ROW LEVEL SECURITY;
ALTER TABLE notice_marks FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notice_marks TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system ON notice_marks TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON notice_marks FOR SELECT TO ringfence_owner USING (true);
