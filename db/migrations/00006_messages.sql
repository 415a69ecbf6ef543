-- Text messages: each is a saga of its own (queued, sending, sent, and what the network says in the end), paid for by a hold.

-- +goose Up
CREATE TABLE messages (
    id           uuid PRIMARY KEY,
    org_id       uuid NOT NULL REFERENCES organizations,
    sender       text NOT NULL,
    recipient    text NOT NULL,
    body         text NOT NULL CONSTRAINT messages_body_length CHECK (length(body) BETWEEN 1 AND 1600),
    encoding     text NOT NULL CONSTRAINT messages_encoding CHECK (encoding IN ('gsm-7', 'ucs-2')),
    segments     int NOT NULL CONSTRAINT messages_segments CHECK (segments > 0),
    -- queued: paid for, nobody was asked; sending: Twilio is being asked, and may have been; sent: Twilio has it.
    state        text NOT NULL CONSTRAINT messages_state CHECK (state IN ('queued', 'sending', 'sent', 'delivered', 'undelivered', 'failed')),
    hold_id      uuid NOT NULL CONSTRAINT messages_hold_unique UNIQUE REFERENCES holds,
    -- What the wallet was charged for it and has not been given back.
    amount_pence bigint NOT NULL DEFAULT 0 CONSTRAINT messages_amount CHECK (amount_pence >= 0),
    -- Twilio's name for it, once it has one.
    sid          text CONSTRAINT messages_sid_unique UNIQUE,
    error_code   int NOT NULL DEFAULT 0,
    -- Why it failed, as a sentence for people.
    note         text NOT NULL DEFAULT '',
    -- The idempotency key, and SHA-256 of what was asked with it: same key, same question, same answer.
    key          text NOT NULL CONSTRAINT messages_key_length CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint  bytea NOT NULL CONSTRAINT messages_fingerprint_length CHECK (octet_length(fingerprint) = 32),
    actor        text NOT NULL,
    created_at   timestamptz NOT NULL,
    -- When Twilio was asked, when it took the message, when it was last looked for there, and when it ended.
    asked_at     timestamptz,
    sent_at      timestamptz,
    looked_at    timestamptz,
    ended_at     timestamptz,
    CONSTRAINT messages_key_unique UNIQUE (org_id, key),
    CONSTRAINT messages_ended CHECK ((ended_at IS NULL) = (state IN ('queued', 'sending', 'sent')))
);
CREATE INDEX messages_by_org ON messages (org_id, id);
CREATE INDEX messages_unfinished ON messages (state, created_at) WHERE ended_at IS NULL;

-- Who does not want to hear from a sender of ours, by the words that people send.
CREATE TABLE opt_outs (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Whose sender it is; NULL for the one that all share, which binds everybody who sends through it.
    org_id    uuid REFERENCES organizations,
    sender    text NOT NULL,
    recipient text NOT NULL,
    -- The word that was sent, or how else we know.
    word      text NOT NULL,
    since     timestamptz NOT NULL,
    CONSTRAINT opt_outs_unique UNIQUE (sender, recipient)
);

-- Texts that came in, once each. What strangers write to the shared sender is nobody's, so it is not kept.
CREATE TABLE inbound_texts (
    sid         text PRIMARY KEY,
    sender      text NOT NULL,
    recipient   text NOT NULL,
    -- What was understood: stop, start, help or nothing.
    meaning     text NOT NULL CONSTRAINT inbound_texts_meaning CHECK (meaning IN ('stop', 'start', 'help', 'none')),
    received_at timestamptz NOT NULL
);
COMMENT ON TABLE inbound_texts IS 'no row-level security: texts to the sender that all share belong to no tenant, and no tenant may read them';

GRANT SELECT, INSERT ON messages TO ringfence_app;
GRANT UPDATE (state, amount_pence, sid, error_code, note, asked_at, sent_at, looked_at, ended_at) ON messages TO ringfence_app;
GRANT SELECT ON messages TO ringfence_system;
GRANT SELECT ON opt_outs TO ringfence_app;
GRANT SELECT, INSERT, DELETE ON opt_outs TO ringfence_system;
GRANT SELECT, INSERT ON inbound_texts TO ringfence_system;

ALTER TABLE messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE messages FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON messages TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON messages FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON messages FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE opt_outs ENABLE ROW LEVEL SECURITY;
ALTER TABLE opt_outs FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON opt_outs TO ringfence_app
    USING (org_id IS NULL OR org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system ON opt_outs TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON opt_outs FOR SELECT TO ringfence_owner USING (true);
