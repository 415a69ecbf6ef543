-- What an organisation's people are to be told, kept in the transaction of what happened.

-- +goose Up
CREATE TABLE notices (
    id        uuid PRIMARY KEY,
    org_id    uuid NOT NULL REFERENCES organizations,
    kind      text NOT NULL CONSTRAINT notices_kind CHECK (kind IN ('low_balance', 'topup_succeeded', 'topup_failed',
                  'card_attention', 'autotopup_ended', 'dispute_opened', 'dispute_closed', 'account_closed')),
    -- What it is about: one organisation, kind and subject are one notice.
    subject   text NOT NULL CONSTRAINT notices_subject_length CHECK (length(subject) BETWEEN 1 AND 255),
    data      jsonb NOT NULL,
    raised_at timestamptz NOT NULL,
    CONSTRAINT notices_unique UNIQUE (org_id, kind, subject)
);

GRANT SELECT, INSERT ON notices TO ringfence_app;
GRANT SELECT, INSERT ON notices TO ringfence_system;

ALTER TABLE notices ENABLE ROW LEVEL SECURITY;
ALTER TABLE notices FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notices TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system ON notices TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON notices FOR SELECT TO ringfence_owner USING (true);
