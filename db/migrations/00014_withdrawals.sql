-- Money that goes back to the cards it came from, accounts that are closed, and why an exchange rate was set.

-- +goose Up
ALTER TABLE organizations ADD COLUMN closed_at timestamptz;
ALTER TABLE wallets
    -- Paid money that is on its way back to cards: the sum of the open withdrawal_parts. Nobody spends it meanwhile.
    ADD COLUMN reserved_pence bigint NOT NULL DEFAULT 0,
    -- As in organizations, where sign-in looks: the gates judge by the wallet's row alone.
    ADD COLUMN closed_at timestamptz,
    ADD COLUMN closed_reason text NOT NULL DEFAULT '',
    DROP CONSTRAINT wallets_funds,
    ADD CONSTRAINT wallets_funds CHECK (balance_pence - held_pence - reserved_pence >= 0),
    ADD CONSTRAINT wallets_reserved_is_paid CHECK (reserved_pence BETWEEN 0 AND balance_pence - bonus_pence),
    ADD CONSTRAINT wallets_closed CHECK ((closed_at IS NULL) = (closed_reason = ''));

CREATE TABLE withdrawals (
    -- Made with the page that asked for it, so that the same form again is the same withdrawal.
    id           uuid PRIMARY KEY,
    org_id       uuid NOT NULL REFERENCES organizations,
    amount_pence bigint NOT NULL CONSTRAINT withdrawals_amount_positive CHECK (amount_pence > 0),
    -- A sentence for the customer.
    reason       text NOT NULL CONSTRAINT withdrawals_reason_length CHECK (length(reason) BETWEEN 1 AND 500),
    -- An actor of the audit log.
    actor        text NOT NULL,
    created_at   timestamptz NOT NULL
);
CREATE INDEX withdrawals_by_org ON withdrawals (org_id, created_at);

-- A withdrawal's shares, each one refund of one payment.
CREATE TABLE withdrawal_parts (
    withdrawal_id   uuid NOT NULL REFERENCES withdrawals,
    payment_intent  text NOT NULL REFERENCES credits,
    org_id          uuid NOT NULL,
    amount_pence    bigint NOT NULL CONSTRAINT withdrawal_parts_amount_positive CHECK (amount_pence > 0),
    -- open: reserved in the wallet, and Stripe is to be asked or has not answered yet; refunded: its refund is posted;
    -- refused: there is none, and the money is the wallet's again.
    state           text NOT NULL CONSTRAINT withdrawal_parts_state CHECK (state IN ('open', 'refunded', 'refused')),
    -- Stripe's id of the refund. What became of that since stands in refunds.
    refund_id       text CONSTRAINT withdrawal_parts_refund_unique UNIQUE,
    -- Why it was refused, or what the last try met with.
    note            text NOT NULL DEFAULT '',
    -- Part of the idempotency key withdrawal:{id}:{payment}:{attempt}: raised when Stripe has cached a 500 for the one before.
    attempt         int NOT NULL DEFAULT 1,
    -- How often Stripe gave no answer; by it the pause before the next try grows.
    tries           int NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    PRIMARY KEY (withdrawal_id, payment_intent),
    CONSTRAINT withdrawal_parts_refunded CHECK ((state = 'refunded') = (refund_id IS NOT NULL))
);
CREATE INDEX withdrawal_parts_by_payment ON withdrawal_parts (payment_intent);
CREATE INDEX withdrawal_parts_due ON withdrawal_parts (next_attempt_at) WHERE state = 'open';

ALTER TABLE exchange_rates ADD COLUMN reason text NOT NULL DEFAULT '';

GRANT UPDATE (closed_at) ON organizations TO ringfence_app;
GRANT UPDATE (reserved_pence, closed_at, closed_reason) ON wallets TO ringfence_app;
GRANT SELECT, INSERT ON withdrawals, withdrawal_parts TO ringfence_app;
GRANT UPDATE (state, refund_id, note, attempt, tries, next_attempt_at, updated_at) ON withdrawal_parts TO ringfence_app;
GRANT SELECT ON withdrawals, withdrawal_parts TO ringfence_system;
GRANT UPDATE (next_attempt_at) ON withdrawal_parts TO ringfence_system;

ALTER TABLE withdrawals ENABLE ROW LEVEL SECURITY;
ALTER TABLE withdrawals FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON withdrawals TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON withdrawals FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON withdrawals FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE withdrawal_parts ENABLE ROW LEVEL SECURITY;
ALTER TABLE withdrawal_parts FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON withdrawal_parts TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system ON withdrawal_parts TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON withdrawal_parts FOR SELECT TO ringfence_owner USING (true);
