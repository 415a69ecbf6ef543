-- The books: one wallet row per organisation (a cache that is locked and guarded), a double-entry ledger that is only
-- ever added to, and one credit per Stripe payment. Amounts are pence, GBP.

-- +goose Up
CREATE TABLE wallets (
    org_id        uuid PRIMARY KEY REFERENCES organizations,
    -- paid + bonus; bonus_pence is the part of it that was given, not bought.
    balance_pence bigint NOT NULL DEFAULT 0,
    bonus_pence   bigint NOT NULL DEFAULT 0,
    held_pence    bigint NOT NULL DEFAULT 0,
    debt_pence    bigint NOT NULL DEFAULT 0,
    -- Number of the wallet's newest ledger transaction. Counted under the row lock, so it is the order of the books.
    last_seq      bigint NOT NULL DEFAULT 0,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    CONSTRAINT wallets_funds CHECK (balance_pence - held_pence >= 0),
    CONSTRAINT wallets_held_not_negative CHECK (held_pence >= 0),
    CONSTRAINT wallets_debt_not_negative CHECK (debt_pence >= 0),
    CONSTRAINT wallets_bonus_within_balance CHECK (bonus_pence BETWEEN 0 AND balance_pence)
) WITH (fillfactor = 50);
-- fillfactor: a wallet is updated all the time and has no index on what changes; room on the page keeps that cheap (HOT).

CREATE TABLE ledger_accounts (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- NULL: an account of the house.
    org_id uuid REFERENCES organizations,
    name   text NOT NULL,
    CONSTRAINT ledger_accounts_side CHECK ((org_id IS NULL) = (name NOT IN ('wallet/paid', 'wallet/bonus', 'receivable')))
);
CREATE UNIQUE INDEX ledger_accounts_org_unique ON ledger_accounts (org_id, name) WHERE org_id IS NOT NULL;
CREATE UNIQUE INDEX ledger_accounts_house_unique ON ledger_accounts (name) WHERE org_id IS NULL;

INSERT INTO ledger_accounts (name) VALUES
    ('stripe_clearing'), ('bonus_granted'), ('adjustment'), ('refunds'), ('disputes');

CREATE TABLE ledger_transactions (
    id                  uuid PRIMARY KEY,
    -- No foreign key: whoever posts holds the wallet's row, which has one.
    org_id              uuid NOT NULL,
    -- Position in the wallet's own history: 1, 2, 3 … without gaps.
    seq                 bigint NOT NULL,
    kind                text NOT NULL CONSTRAINT ledger_transactions_kind CHECK (kind IN ('top_up', 'adjustment', 'bonus')),
    -- What makes a repeat of the same fact the same transaction: the PaymentIntent, the operator's reference …
    reference           text NOT NULL,
    description         text NOT NULL,
    -- Change of the wallet (paid + bonus) and of the debt by this transaction, and both after it.
    amount_pence        bigint NOT NULL,
    balance_after_pence bigint NOT NULL,
    debt_after_pence    bigint NOT NULL,
    top_up_id           uuid,
    created_at          timestamptz NOT NULL,
    CONSTRAINT ledger_transactions_seq_unique UNIQUE (org_id, seq),
    CONSTRAINT ledger_transactions_reference_unique UNIQUE (org_id, kind, reference)
);

CREATE TABLE ledger_postings (
    transaction_id uuid NOT NULL REFERENCES ledger_transactions,
    -- No foreign key: it would lock the house's account rows on every posting, and house accounts are never locked.
    -- verify looks for postings without an account instead.
    account_id     bigint NOT NULL,
    -- The organisation on whose behalf the posting was made, for house accounts too.
    org_id         uuid NOT NULL,
    -- Added to (positive) or taken from (negative) the account; a transaction's postings sum to zero.
    amount_pence   bigint NOT NULL CONSTRAINT ledger_postings_not_zero CHECK (amount_pence <> 0),
    PRIMARY KEY (transaction_id, account_id)
);
CREATE INDEX ledger_postings_by_account ON ledger_postings (account_id) INCLUDE (amount_pence);

CREATE TABLE exchange_rates (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Pounds for one dollar, in millionths: 790000 is 0.79.
    usd_to_gbp_micros bigint NOT NULL CONSTRAINT exchange_rates_sane CHECK (usd_to_gbp_micros BETWEEN 1 AND 9999999),
    source            text NOT NULL,
    author            text NOT NULL,
    starts_at         timestamptz NOT NULL,
    created_at        timestamptz NOT NULL
);
CREATE INDEX exchange_rates_by_start ON exchange_rates (starts_at);
COMMENT ON TABLE exchange_rates IS 'no row-level security: one price of the dollar for everybody, holds nothing of a tenant';

CREATE TABLE stripe_customers (
    org_id      uuid PRIMARY KEY REFERENCES organizations,
    customer_id text NOT NULL,
    created_at  timestamptz NOT NULL,
    CONSTRAINT stripe_customers_customer_unique UNIQUE (customer_id)
);

-- The order is the rank: a top-up only ever moves up, so the events of one payment end the same in every order.
CREATE TYPE top_up_state AS ENUM ('creating', 'open', 'expired', 'processing', 'failed', 'paid');

CREATE TABLE top_ups (
    id               uuid PRIMARY KEY,
    org_id           uuid NOT NULL REFERENCES organizations,
    user_id          uuid NOT NULL REFERENCES users,
    amount_pence     bigint NOT NULL CONSTRAINT top_ups_amount_positive CHECK (amount_pence > 0),
    usd_cents        bigint NOT NULL,
    rate_id          bigint NOT NULL REFERENCES exchange_rates,
    state            top_up_state NOT NULL,
    -- Part of the idempotency key topup:{id}:{attempt}: raised when Stripe has cached a 500 for the one before.
    attempt          int NOT NULL DEFAULT 1,
    session_id       text,
    checkout_url     text,
    -- What Stripe has received for it; set with state 'paid'.
    paid_pence       bigint NOT NULL DEFAULT 0,
    -- The newest thing Stripe said about it that the customer should know, such as a decline.
    note             text NOT NULL DEFAULT '',
    note_at          timestamptz,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    CONSTRAINT top_ups_paid CHECK ((state = 'paid') = (paid_pence > 0)),
    CONSTRAINT top_ups_open_has_session CHECK (state <> 'open' OR (session_id IS NOT NULL AND checkout_url IS NOT NULL))
);
-- One open top-up per organisation, user and amount: the answer to double clicks, two tabs and reloads.
CREATE UNIQUE INDEX top_ups_one_open ON top_ups (org_id, user_id, amount_pence) WHERE state IN ('creating', 'open');
CREATE INDEX top_ups_by_org ON top_ups (org_id, created_at);

CREATE TABLE payments (
    payment_intent text PRIMARY KEY,
    org_id         uuid NOT NULL REFERENCES organizations,
    top_up_id      uuid NOT NULL REFERENCES top_ups,
    -- amount_received; zero until Stripe says that it has the money.
    amount_pence   bigint NOT NULL CONSTRAINT payments_amount_not_negative CHECK (amount_pence >= 0),
    paid_at        timestamptz,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    CONSTRAINT payments_paid CHECK ((paid_at IS NULL) = (amount_pence = 0))
);
CREATE INDEX payments_by_top_up ON payments (top_up_id);

CREATE TABLE credits (
    -- Organisation and top-up have their foreign keys on the payment; verify holds that they agree.
    payment_intent text PRIMARY KEY REFERENCES payments,
    org_id         uuid NOT NULL,
    top_up_id      uuid NOT NULL,
    amount_pence   bigint NOT NULL CONSTRAINT credits_amount_positive CHECK (amount_pence > 0),
    transaction_id uuid NOT NULL CONSTRAINT credits_transaction_unique UNIQUE
        REFERENCES ledger_transactions DEFERRABLE INITIALLY DEFERRED,
    created_at     timestamptz NOT NULL
);

CREATE TABLE stripe_events (
    id              text PRIMARY KEY CONSTRAINT stripe_events_id_length CHECK (length(id) BETWEEN 1 AND 255),
    type            text NOT NULL,
    -- The body as it came, byte for byte: whatever happens later, this is what Stripe said.
    payload         bytea NOT NULL,
    -- Found through our own rows, never believed from the event, so it needs no foreign key.
    org_id          uuid,
    top_up_id       uuid,
    payment_intent  text,
    state           text NOT NULL CONSTRAINT stripe_events_state
        CHECK (state IN ('received', 'processed', 'ignored', 'quarantined', 'failed')),
    attempts        int NOT NULL DEFAULT 0,
    -- Why it was ignored or quarantined, or what the last attempt failed with.
    reason          text NOT NULL DEFAULT '',
    occurred_at     timestamptz NOT NULL,
    received_at     timestamptz NOT NULL,
    next_attempt_at timestamptz NOT NULL,
    processed_at    timestamptz
);
CREATE INDEX stripe_events_waiting ON stripe_events (next_attempt_at) WHERE state = 'received';
CREATE INDEX stripe_events_by_state ON stripe_events (state, received_at) WHERE state IN ('quarantined', 'failed');

-- Rights. The ledger, credits and audit rows can be added, never changed or removed, by the roles that work.
GRANT SELECT, INSERT ON wallets TO ringfence_app;
GRANT UPDATE (balance_pence, bonus_pence, held_pence, debt_pence, last_seq, updated_at) ON wallets TO ringfence_app;
GRANT SELECT, INSERT ON ledger_accounts, ledger_transactions, ledger_postings, credits, payments, stripe_customers, top_ups TO ringfence_app;
GRANT UPDATE (amount_pence, paid_at, updated_at) ON payments TO ringfence_app;
GRANT UPDATE (state, attempt, session_id, checkout_url, paid_pence, note, note_at, updated_at) ON top_ups TO ringfence_app;
GRANT SELECT ON exchange_rates, stripe_events TO ringfence_app;
GRANT UPDATE (state, attempts, reason, next_attempt_at, processed_at) ON stripe_events TO ringfence_app;

GRANT SELECT ON wallets, ledger_accounts, ledger_transactions, ledger_postings, credits, payments, stripe_customers, top_ups TO ringfence_system;
GRANT SELECT, INSERT ON exchange_rates, stripe_events TO ringfence_system;
GRANT UPDATE (state, attempts, reason, next_attempt_at, processed_at, org_id) ON stripe_events TO ringfence_system;

ALTER TABLE wallets ENABLE ROW LEVEL SECURITY;
ALTER TABLE wallets FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON wallets TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON wallets FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON wallets FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE ledger_accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger_accounts FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON ledger_accounts TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY house ON ledger_accounts FOR SELECT TO ringfence_app USING (org_id IS NULL);
CREATE POLICY system_reads ON ledger_accounts FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON ledger_accounts FOR SELECT TO ringfence_owner USING (true);
-- Migrations add house accounts as actions get prices.
CREATE POLICY owner_adds ON ledger_accounts FOR INSERT TO ringfence_owner WITH CHECK (org_id IS NULL);

ALTER TABLE ledger_transactions ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger_transactions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON ledger_transactions TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON ledger_transactions FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON ledger_transactions FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE ledger_postings ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger_postings FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON ledger_postings TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON ledger_postings FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON ledger_postings FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE stripe_customers ENABLE ROW LEVEL SECURITY;
ALTER TABLE stripe_customers FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON stripe_customers TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON stripe_customers FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON stripe_customers FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE top_ups ENABLE ROW LEVEL SECURITY;
ALTER TABLE top_ups FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON top_ups TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON top_ups FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON top_ups FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE payments ENABLE ROW LEVEL SECURITY;
ALTER TABLE payments FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON payments TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON payments FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON payments FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE credits ENABLE ROW LEVEL SECURITY;
ALTER TABLE credits FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON credits TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON credits FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON credits FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE stripe_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE stripe_events FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON stripe_events TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system ON stripe_events TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON stripe_events FOR SELECT TO ringfence_owner USING (true);
