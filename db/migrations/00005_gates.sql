-- What things cost, the money that is set aside before they happen, and the limits a wallet is held to.

-- +goose Up

-- Limits and what they are judged by stand in the wallet's own row: the row is locked when a gate decides, so what it
-- judges by can be neither stale nor raced.
ALTER TABLE wallets
    ADD COLUMN frozen_at timestamptz,
    ADD COLUMN frozen_reason text NOT NULL DEFAULT '',
    -- Most that may be spent in a calendar month (UTC), in all and on each action; null means no limit.
    ADD COLUMN cap_pence bigint CONSTRAINT wallets_cap_not_negative CHECK (cap_pence >= 0),
    ADD COLUMN cap_call_pence bigint CONSTRAINT wallets_cap_call_not_negative CHECK (cap_call_pence >= 0),
    ADD COLUMN cap_sms_pence bigint CONSTRAINT wallets_cap_sms_not_negative CHECK (cap_sms_pence >= 0),
    ADD COLUMN cap_number_pence bigint CONSTRAINT wallets_cap_number_not_negative CHECK (cap_number_pence >= 0),
    ADD COLUMN cap_knowledge_pence bigint CONSTRAINT wallets_cap_knowledge_not_negative CHECK (cap_knowledge_pence >= 0),
    -- Spent and set aside by the holds made in spent_month: the sum of their amount_pence.
    ADD COLUMN spent_month date NOT NULL DEFAULT '1970-01-01' CONSTRAINT wallets_spent_month_first CHECK (date_trunc('month', spent_month) = spent_month),
    ADD COLUMN spent_call_pence bigint NOT NULL DEFAULT 0,
    ADD COLUMN spent_sms_pence bigint NOT NULL DEFAULT 0,
    ADD COLUMN spent_number_pence bigint NOT NULL DEFAULT 0,
    ADD COLUMN spent_knowledge_pence bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT wallets_frozen CHECK ((frozen_at IS NULL) = (frozen_reason = ''));
GRANT UPDATE (cap_pence, cap_call_pence, cap_sms_pence, cap_number_pence, cap_knowledge_pence, frozen_at, frozen_reason,
              spent_month, spent_call_pence, spent_sms_pence, spent_number_pence, spent_knowledge_pence) ON wallets TO ringfence_app;

-- The rate card: every version there was. The one in force is the newest of those that have begun, looked for first at
-- the longest prefix of the destination, and there first among the organisation's own.
CREATE TABLE prices (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- NULL: the price for everybody.
    org_id           uuid REFERENCES organizations,
    action           text NOT NULL CONSTRAINT prices_action CHECK (action IN ('call', 'sms', 'number', 'knowledge')),
    -- Digits an E.164 number begins with, without the plus; empty for what has no destination, or where none is told.
    prefix           text NOT NULL DEFAULT '' CONSTRAINT prices_prefix CHECK (prefix ~ '^([1-9][0-9]{0,14})?$'),
    -- on: may happen, at this price; off: may not; inherit: an organisation's own price has ended.
    state            text NOT NULL CONSTRAINT prices_state CHECK (state IN ('on', 'off', 'inherit')),
    -- A text's segment, a number's purchase, a search; of a call, what must be available to start it.
    unit_pence       bigint NOT NULL DEFAULT 0 CONSTRAINT prices_unit CHECK (unit_pence BETWEEN 0 AND 100000),
    -- A number's month after the first.
    monthly_pence    bigint NOT NULL DEFAULT 0 CONSTRAINT prices_monthly CHECK (monthly_pence BETWEEN 0 AND 100000),
    -- A call's minute, in US cents; charged by the second.
    cents_per_minute bigint NOT NULL DEFAULT 0 CONSTRAINT prices_minute CHECK (cents_per_minute BETWEEN 0 AND 100000),
    -- Whether a text that the network could not deliver is paid for.
    charge_undelivered boolean NOT NULL DEFAULT true,
    starts_at        timestamptz NOT NULL,
    created_at       timestamptz NOT NULL,
    -- An actor of the audit log.
    author           text NOT NULL,
    reason           text NOT NULL,
    CONSTRAINT prices_whole CHECK (state <> 'on' OR CASE action WHEN 'call' THEN cents_per_minute > 0 ELSE unit_pence > 0 END),
    CONSTRAINT prices_inherit CHECK (state <> 'inherit' OR org_id IS NOT NULL),
    CONSTRAINT prices_destination CHECK (prefix = '' OR action IN ('call', 'sms'))
);
CREATE INDEX prices_by_start ON prices (starts_at);

INSERT INTO prices (action, prefix, state, unit_pence, monthly_pence, cents_per_minute, starts_at, created_at, author, reason)
SELECT action, prefix, 'on', unit, monthly, cents, '1970-01-01', now(), 'system:migration', 'First prices'
FROM (VALUES ('call', 79, 0, 70), ('sms', 10, 0, 0)) p (action, unit, monthly, cents), unnest(ARRAY['', '44', '1']) prefix
UNION ALL VALUES
    ('number', '', 'on', 1000, 119, 0, '1970-01-01'::timestamptz, now(), 'system:migration', 'First prices'),
    ('knowledge', '', 'on', 1, 0, 0, '1970-01-01', now(), 'system:migration', 'First prices');

-- +1 and +44 are more than the United States and Great Britain: other countries and islands, and numbers that pay
-- whoever is called. Those stay shut until somebody prices them.
INSERT INTO prices (action, prefix, state, starts_at, created_at, author, reason)
SELECT action, prefix, 'off', '1970-01-01', now(), 'system:migration', reason
FROM unnest(ARRAY['call', 'sms']) action,
     (VALUES ('Canada', '1204 1226 1236 1249 1250 1257 1263 1289 1306 1343 1354 1365 1367 1368 1382 1403 1416 1418 1428 1431 1437 1438 1450 1460 1468 1474 1506 1514 1519 1548 1579 1581 1584 1587 1604 1613 1639 1647 1672 1683 1705 1709 1742 1753 1778 1780 1782 1807 1819 1825 1867 1873 1879 1902 1905 1942'),
             ('Caribbean, Bermuda and Pacific islands', '1242 1246 1264 1268 1284 1340 1345 1441 1473 1649 1658 1664 1670 1671 1684 1721 1758 1767 1784 1787 1809 1829 1849 1868 1869 1876 1939'),
             ('Premium rate', '1900 1976 449 4484 4487'),
             ('Personal and pager numbers', '4470 4476'),
             ('Guernsey', '441481 447781 447839 4479111 4479117'),
             ('Jersey', '441534 447509 4477003 4477007 4477008 447797 447829 447937'),
             ('Isle of Man', '441624 4474576 447524 447624 447924')) g (reason, list),
     unnest(string_to_array(list, ' ')) prefix;

-- Money set aside before something happens: authorise, then capture, void or expire.
CREATE TABLE holds (
    id               uuid PRIMARY KEY,
    -- No foreign key: whoever makes a hold has the wallet's row locked, which has one.
    org_id           uuid NOT NULL,
    -- Who settles it: a program over the API, or the part of ours that does the work.
    source           text NOT NULL CONSTRAINT holds_source CHECK (source IN ('api', 'message', 'call', 'number', 'knowledge')),
    -- The idempotency key, and SHA-256 of what was asked with it: same key, same question, same answer.
    key              text NOT NULL CONSTRAINT holds_key_length CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint      bytea NOT NULL CONSTRAINT holds_fingerprint_length CHECK (octet_length(fingerprint) = 32),
    action           text NOT NULL CONSTRAINT holds_action CHECK (action IN ('call', 'sms', 'number', 'knowledge')),
    -- Seconds, segments, numbers, searches.
    quantity         bigint NOT NULL CONSTRAINT holds_quantity CHECK (quantity > 0),
    destination      text NOT NULL,
    -- The versions it was priced with.
    price_id         bigint NOT NULL,
    rate_id          bigint NOT NULL,
    -- What was decided at first, which a repeat of the request is told again.
    authorised_pence bigint NOT NULL CONSTRAINT holds_authorised CHECK (authorised_pence > 0),
    -- What the wallet has set aside for it, or when captured what was taken; nothing once it is void or expired.
    amount_pence     bigint NOT NULL CONSTRAINT holds_amount CHECK (amount_pence >= 0 AND (amount_pence > 0) = (state NOT IN ('void', 'expired'))),
    -- in_flight: a provider was asked, so only its answer ends the hold.
    state            text NOT NULL CONSTRAINT holds_state CHECK (state IN ('open', 'in_flight', 'captured', 'void', 'expired')),
    -- Captured by the request that made it.
    at_once          boolean NOT NULL,
    actor            text NOT NULL,
    request_id       text NOT NULL,
    created_at       timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    -- Who ended it; the ledger transaction of a capture has the hold's own id, so there can be only one.
    settled_by       text NOT NULL DEFAULT '',
    CONSTRAINT holds_key_unique UNIQUE (org_id, source, key)
);
CREATE INDEX holds_open ON holds (org_id, created_at) WHERE state IN ('open', 'in_flight');
CREATE INDEX holds_due ON holds (expires_at) WHERE state = 'open';

ALTER TABLE ledger_transactions DROP CONSTRAINT ledger_transactions_kind;
ALTER TABLE ledger_transactions ADD CONSTRAINT ledger_transactions_kind CHECK (kind IN ('top_up', 'adjustment', 'bonus', 'usage'));
-- What was used has its hold's id for its own, which makes it unique already.
ALTER TABLE ledger_transactions DROP CONSTRAINT ledger_transactions_reference_unique;
CREATE UNIQUE INDEX ledger_transactions_reference_unique ON ledger_transactions (org_id, kind, reference) WHERE kind <> 'usage';
INSERT INTO ledger_accounts (name) VALUES ('revenue/call'), ('revenue/sms'), ('revenue/number'), ('revenue/knowledge');

DROP INDEX audit_log_by_subject;
CREATE INDEX audit_log_by_subject ON audit_log (subject, id) WHERE action <> 'wallet.credited' AND action <> 'wallet.charged';

GRANT SELECT ON prices TO ringfence_app;
GRANT SELECT, INSERT ON prices TO ringfence_system;
GRANT SELECT, INSERT ON holds TO ringfence_app;
GRANT UPDATE (amount_pence, state, updated_at, settled_by) ON holds TO ringfence_app;
GRANT SELECT ON holds TO ringfence_system;

ALTER TABLE prices ENABLE ROW LEVEL SECURITY;
ALTER TABLE prices FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON prices TO ringfence_app
    USING (org_id IS NULL OR org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system ON prices TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON prices FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE holds ENABLE ROW LEVEL SECURITY;
ALTER TABLE holds FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON holds TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON holds FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON holds FOR SELECT TO ringfence_owner USING (true);
