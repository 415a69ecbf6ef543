-- A wallet's history as people read it: the rare kinds found directly, and what happened day by day.

-- +goose Up
-- What moves money without being used is rare beside what is: these lines are found without a walk past every call.
CREATE INDEX ledger_transactions_not_used ON ledger_transactions (org_id, kind, seq) WHERE kind <> 'usage';

-- A wallet's days, in UTC, as its ledger has them up to the highest last_seq; what came after that is read from the ledger
-- itself. Added up behind the gates, never within them: no movement of money waits for it.
CREATE TABLE wallet_days (
    -- No foreign key: it is made of ledger transactions, which belong to a wallet.
    org_id          uuid NOT NULL,
    day             date NOT NULL,
    -- The numbers of the first and the last of the day's transactions, and how many there are. Days may overlap by a few
    -- where the clocks of several machines disagree.
    first_seq       bigint NOT NULL,
    last_seq        bigint NOT NULL,
    transactions    bigint NOT NULL CONSTRAINT wallet_days_transactions CHECK (transactions BETWEEN 1 AND last_seq - first_seq + 1),
    -- After the last of them.
    balance_pence   bigint NOT NULL,
    -- What was used: how often, and what it cost, debt included.
    calls           bigint NOT NULL,
    call_pence      bigint NOT NULL,
    sms             bigint NOT NULL,
    sms_pence       bigint NOT NULL,
    numbers         bigint NOT NULL,
    number_pence    bigint NOT NULL,
    searches        bigint NOT NULL,
    knowledge_pence bigint NOT NULL,
    PRIMARY KEY (org_id, day)
);
CREATE UNIQUE INDEX wallet_days_last_seq ON wallet_days (org_id, last_seq);

GRANT SELECT, INSERT ON wallet_days TO ringfence_app;
GRANT UPDATE (first_seq, last_seq, transactions, balance_pence, calls, call_pence, sms, sms_pence, numbers, number_pence, searches, knowledge_pence)
    ON wallet_days TO ringfence_app;
GRANT SELECT ON wallet_days TO ringfence_system;

ALTER TABLE wallet_days ENABLE ROW LEVEL SECURITY;
ALTER TABLE wallet_days FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON wallet_days TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON wallet_days FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON wallet_days FOR SELECT TO ringfence_owner USING (true);
