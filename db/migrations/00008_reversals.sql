-- What becomes of a payment after it was credited: refunds and disputes, kept by their ids as Stripe has them, and what
-- the ledger has taken back for them. And the rounds in which our books are compared with Stripe's.

-- +goose Up
ALTER TABLE ledger_transactions DROP CONSTRAINT ledger_transactions_kind;
ALTER TABLE ledger_transactions ADD CONSTRAINT ledger_transactions_kind
    CHECK (kind IN ('top_up', 'adjustment', 'bonus', 'usage', 'refund', 'dispute'));

-- Numbers the questions that we ask Stripe about a payment, before each is asked. The answer to the highest number is the
-- newest: it was asked after whatever the others could have seen.
CREATE SEQUENCE stripe_questions;
ALTER TABLE payments ADD COLUMN answered_question bigint NOT NULL DEFAULT 0;

CREATE TABLE refunds (
    -- Stripe's id (re_…).
    id             text PRIMARY KEY,
    org_id         uuid NOT NULL,
    payment_intent text NOT NULL REFERENCES payments,
    amount_pence   bigint NOT NULL CONSTRAINT refunds_amount_positive CHECK (amount_pence > 0),
    -- Stripe's word: pending, requires_action, succeeded, failed, canceled. All but the last two take the money.
    status         text NOT NULL,
    -- When Stripe made it, and when we last heard of it.
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL
);
CREATE INDEX refunds_by_payment ON refunds (payment_intent);

CREATE TABLE disputes (
    -- Stripe's id (dp_…).
    id              text PRIMARY KEY,
    org_id          uuid NOT NULL,
    payment_intent  text NOT NULL REFERENCES payments,
    amount_pence    bigint NOT NULL CONSTRAINT disputes_amount_not_negative CHECK (amount_pence >= 0),
    -- What the bank has taken for it and not given back: only this counts, whatever the status says.
    withdrawn_pence bigint NOT NULL CONSTRAINT disputes_withdrawn CHECK (withdrawn_pence BETWEEN 0 AND amount_pence),
    -- Stripe's word: needs_response, under_review, won, lost; an inquiry's begin with warning_.
    status          text NOT NULL,
    reason          text NOT NULL,
    -- The wallet was frozen for it, which happens once: who thaws it after that has decided.
    froze           boolean NOT NULL DEFAULT false,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL
);
CREATE INDEX disputes_by_payment ON disputes (payment_intent);
CREATE INDEX disputes_by_org ON disputes (org_id, created_at);

-- What the ledger has moved because of refunds and disputes, one row for each of those transactions.
CREATE TABLE reversals (
    payment_intent text NOT NULL REFERENCES credits,
    -- 1, 2, 3 … of the payment.
    number         int NOT NULL CONSTRAINT reversals_number CHECK (number > 0),
    org_id         uuid NOT NULL,
    kind           text NOT NULL CONSTRAINT reversals_kind CHECK (kind IN ('refund', 'dispute')),
    -- Taken back (positive) or given again (negative).
    amount_pence   bigint NOT NULL CONSTRAINT reversals_amount_not_zero CHECK (amount_pence <> 0),
    -- The part of it that was taken from the bonus, or given to it again.
    bonus_pence    bigint NOT NULL,
    transaction_id uuid NOT NULL CONSTRAINT reversals_transaction_unique UNIQUE REFERENCES ledger_transactions,
    created_at     timestamptz NOT NULL,
    PRIMARY KEY (payment_intent, number)
);

CREATE TABLE reconciliations (
    id              uuid PRIMARY KEY,
    kind            text NOT NULL CONSTRAINT reconciliations_kind CHECK (kind IN ('recent', 'full', 'manual')),
    -- What Stripe was asked about: everything made in this time.
    since           timestamptz NOT NULL,
    until           timestamptz NOT NULL,
    started_at      timestamptz NOT NULL,
    -- NULL while it runs, or when its process died.
    finished_at     timestamptz,
    looked_at       bigint NOT NULL DEFAULT 0,
    healed          bigint NOT NULL DEFAULT 0,
    healed_pence    bigint NOT NULL DEFAULT 0,
    -- From the payment to its credit, of what was healed; NULL where nothing was.
    median_delay_ms bigint,
    -- Refunds and disputes of which we had not heard.
    reversals       bigint NOT NULL DEFAULT 0,
    disagreements   bigint NOT NULL DEFAULT 0,
    error           text NOT NULL DEFAULT ''
);
CREATE INDEX reconciliations_by_kind ON reconciliations (kind, started_at);
CREATE INDEX reconciliations_by_start ON reconciliations (started_at);
COMMENT ON TABLE reconciliations IS 'no row-level security: figures of the house about its own rounds, holds nothing of a tenant';

-- Payments whose webhook never came: credited because a reconciliation found them.
CREATE TABLE healed_credits (
    payment_intent    text PRIMARY KEY REFERENCES credits,
    org_id            uuid NOT NULL,
    reconciliation_id uuid NOT NULL REFERENCES reconciliations,
    amount_pence      bigint NOT NULL,
    -- From the payment to its credit.
    delay_ms          bigint NOT NULL,
    healed_at         timestamptz NOT NULL
);
CREATE INDEX healed_credits_by_time ON healed_credits (healed_at);

GRANT UPDATE (answered_question) ON payments TO ringfence_app;
GRANT SELECT, INSERT ON refunds, disputes, reversals TO ringfence_app;
GRANT UPDATE (amount_pence, status, updated_at) ON refunds TO ringfence_app;
GRANT UPDATE (amount_pence, withdrawn_pence, status, reason, froze, updated_at) ON disputes TO ringfence_app;
GRANT SELECT ON refunds, disputes, reversals TO ringfence_system;
GRANT SELECT, INSERT, UPDATE ON reconciliations TO ringfence_system;
GRANT SELECT, INSERT ON healed_credits TO ringfence_system;
GRANT SELECT ON healed_credits TO ringfence_app;
GRANT USAGE ON SEQUENCE stripe_questions TO ringfence_system;

ALTER TABLE refunds ENABLE ROW LEVEL SECURITY;
ALTER TABLE refunds FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON refunds TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON refunds FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON refunds FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE disputes ENABLE ROW LEVEL SECURITY;
ALTER TABLE disputes FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON disputes TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON disputes FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON disputes FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE reversals ENABLE ROW LEVEL SECURITY;
ALTER TABLE reversals FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON reversals TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON reversals FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON reversals FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE healed_credits ENABLE ROW LEVEL SECURITY;
ALTER TABLE healed_credits FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON healed_credits TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system ON healed_credits TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON healed_credits FOR SELECT TO ringfence_owner USING (true);
