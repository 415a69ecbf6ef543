-- Automatic top-ups: the cards that organisations have saved, what they allow us to charge them by ourselves, and the
-- operators' switch that stops all of it.

-- +goose Up

-- What operators can stop for everybody at once.
CREATE TABLE switches (
    name       text PRIMARY KEY CONSTRAINT switches_name CHECK (name IN ('auto_top_ups')),
    stopped    boolean NOT NULL,
    -- Why it was stopped or started, and by which actor of the audit log.
    reason     text NOT NULL,
    author     text NOT NULL,
    changed_at timestamptz NOT NULL
);
COMMENT ON TABLE switches IS 'no row-level security: switches of the house for everybody, holds nothing of a tenant';
INSERT INTO switches (name, stopped, reason, author, changed_at) VALUES ('auto_top_ups', false, 'As it began', 'system:migration', now());

CREATE TABLE saved_cards (
    -- Stripe's id (pm_…). The card itself is Stripe's to keep.
    payment_method text PRIMARY KEY CONSTRAINT saved_cards_payment_method CHECK (payment_method ~ '^[A-Za-z0-9_]{1,255}$'),
    org_id         uuid NOT NULL REFERENCES organizations,
    -- What a person knows it by.
    brand          text NOT NULL,
    last4          text NOT NULL,
    exp_month      int NOT NULL CONSTRAINT saved_cards_month CHECK (exp_month BETWEEN 1 AND 12),
    exp_year       int NOT NULL,
    -- Who allowed it to be charged without being asked again, when, and in exactly which words.
    consented_by   uuid NOT NULL REFERENCES users,
    consented_at   timestamptz NOT NULL,
    consent        text NOT NULL CONSTRAINT saved_cards_consent CHECK (consent <> ''),
    created_at     timestamptz NOT NULL,
    -- From here on it is never used again; Stripe is told after that, until it has confirmed it.
    removed_at     timestamptz,
    removed_why    text NOT NULL DEFAULT '',
    detached_at    timestamptz,
    CONSTRAINT saved_cards_removed CHECK ((removed_at IS NULL) = (removed_why = '') AND (detached_at IS NULL OR removed_at IS NOT NULL))
);
CREATE UNIQUE INDEX saved_cards_one_active ON saved_cards (org_id) WHERE removed_at IS NULL;
CREATE INDEX saved_cards_to_detach ON saved_cards (removed_at) WHERE removed_at IS NOT NULL AND detached_at IS NULL;

-- A card that is being saved without a payment, on a page of Stripe's.
CREATE TABLE card_setups (
    id           uuid PRIMARY KEY,
    org_id       uuid NOT NULL REFERENCES organizations,
    -- Who lets it be kept, and in which words.
    user_id      uuid NOT NULL REFERENCES users,
    consent      text NOT NULL CONSTRAINT card_setups_consent CHECK (consent <> ''),
    state        text NOT NULL CONSTRAINT card_setups_state CHECK (state IN ('creating', 'open', 'done', 'expired', 'failed')),
    -- Part of the idempotency key, as of a top-up.
    attempt      int NOT NULL DEFAULT 1,
    session_id   text,
    checkout_url text,
    asked_at     timestamptz,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    CONSTRAINT card_setups_open_has_session CHECK (state <> 'open' OR (session_id IS NOT NULL AND checkout_url IS NOT NULL))
);
CREATE UNIQUE INDEX card_setups_one_open ON card_setups (org_id, user_id) WHERE state IN ('creating', 'open');
CREATE INDEX card_setups_open ON card_setups (created_at) WHERE state = 'open';

CREATE TABLE auto_top_ups (
    org_id            uuid PRIMARY KEY REFERENCES organizations,
    -- off: by its owner. ready: charges when the wallet is low. cooling_down: after a decline, not before until.
    -- needs_authentication: the bank wants to see the cardholder first. stopped: by us, until its owner turns it on again.
    state             text NOT NULL CONSTRAINT auto_top_ups_state
        CHECK (state IN ('off', 'ready', 'cooling_down', 'needs_authentication', 'stopped')),
    until             timestamptz,
    -- A sentence for the customer: why it is in this state.
    reason            text NOT NULL DEFAULT '',
    threshold_pence   bigint NOT NULL CONSTRAINT auto_top_ups_threshold CHECK (threshold_pence > 0),
    amount_pence      bigint NOT NULL,
    daily_cap_pence   bigint NOT NULL,
    monthly_cap_pence bigint NOT NULL,
    -- Declines in a row, and when the top-up was made that was declined last: one that went through after it ends the row.
    declines          int NOT NULL DEFAULT 0,
    declined_at       timestamptz,
    -- Who allowed these figures, when, and in exactly which words.
    consented_by      uuid NOT NULL REFERENCES users,
    consented_at      timestamptz NOT NULL,
    consent           text NOT NULL CONSTRAINT auto_top_ups_consent CHECK (consent <> ''),
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    CONSTRAINT auto_top_ups_figures CHECK (threshold_pence <= amount_pence AND amount_pence <= daily_cap_pence AND daily_cap_pence <= monthly_cap_pence),
    CONSTRAINT auto_top_ups_until CHECK ((state = 'cooling_down') = (until IS NOT NULL)),
    CONSTRAINT auto_top_ups_reason CHECK (reason <> '' OR state IN ('off', 'ready'))
);
CREATE INDEX auto_top_ups_on ON auto_top_ups (org_id) WHERE state IN ('ready', 'cooling_down');

ALTER TABLE top_ups
    -- Charged to a saved card by ourselves, for what user_id allowed.
    ADD COLUMN automatic boolean NOT NULL DEFAULT false,
    -- The payer wants the card to be kept; card_known once it is, or once it is clear that there is none to keep.
    ADD COLUMN save_card boolean NOT NULL DEFAULT false,
    ADD COLUMN card_known boolean NOT NULL DEFAULT false,
    -- The words that user_id agreed to, where a card is kept or charged by ourselves.
    ADD COLUMN consent text NOT NULL DEFAULT '',
    -- Of an automatic one: the card that it charges, and the PaymentIntent by which Stripe does it.
    ADD COLUMN payment_method text,
    ADD COLUMN payment_intent text,
    -- When we last began to ask Stripe about it. Who asks has it for half a minute.
    ADD COLUMN asked_at timestamptz,
    ADD CONSTRAINT top_ups_automatic CHECK (automatic = (payment_method IS NOT NULL) AND (automatic OR payment_intent IS NULL)),
    ADD CONSTRAINT top_ups_consent CHECK (NOT (automatic AND save_card) AND (automatic OR save_card) = (consent <> ''));

-- What the session is made with is a function of the row, so whether it keeps the card is a part of what makes it one.
DROP INDEX top_ups_one_open;
CREATE UNIQUE INDEX top_ups_one_open ON top_ups (org_id, user_id, amount_pence, save_card) WHERE state IN ('creating', 'open') AND NOT automatic;
-- However many processes want to charge an organisation's card, one does.
CREATE UNIQUE INDEX top_ups_one_automatic ON top_ups (org_id) WHERE automatic AND state IN ('creating', 'open', 'processing');
CREATE UNIQUE INDEX top_ups_payment_intent ON top_ups (payment_intent) WHERE payment_intent IS NOT NULL;
CREATE INDEX top_ups_automatic ON top_ups (org_id, created_at) WHERE automatic;
CREATE INDEX top_ups_under_way ON top_ups (asked_at NULLS FIRST) WHERE automatic AND state IN ('creating', 'open', 'processing');
CREATE INDEX top_ups_card_unknown ON top_ups (created_at) WHERE save_card AND state = 'paid' AND NOT card_known;

GRANT UPDATE (card_known, payment_intent, asked_at) ON top_ups TO ringfence_app;
GRANT SELECT ON switches TO ringfence_app;
GRANT SELECT, INSERT ON saved_cards, card_setups, auto_top_ups TO ringfence_app;
GRANT UPDATE (state, attempt, session_id, checkout_url, asked_at, updated_at) ON card_setups TO ringfence_app;
GRANT UPDATE (removed_at, removed_why, detached_at) ON saved_cards TO ringfence_app;
GRANT UPDATE (state, until, reason, threshold_pence, amount_pence, daily_cap_pence, monthly_cap_pence, declines, declined_at,
              consented_by, consented_at, consent, updated_at) ON auto_top_ups TO ringfence_app;
GRANT SELECT ON saved_cards, card_setups, auto_top_ups TO ringfence_system;
GRANT SELECT ON switches TO ringfence_system;
GRANT UPDATE (stopped, reason, author, changed_at) ON switches TO ringfence_system;

ALTER TABLE saved_cards ENABLE ROW LEVEL SECURITY;
ALTER TABLE saved_cards FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON saved_cards TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON saved_cards FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON saved_cards FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE card_setups ENABLE ROW LEVEL SECURITY;
ALTER TABLE card_setups FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON card_setups TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON card_setups FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON card_setups FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE auto_top_ups ENABLE ROW LEVEL SECURITY;
ALTER TABLE auto_top_ups FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON auto_top_ups TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON auto_top_ups FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON auto_top_ups FOR SELECT TO ringfence_owner USING (true);
