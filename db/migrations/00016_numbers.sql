-- Phone numbers that we manage: the accounts and credentials that they are bought with, each number's way from order to
-- release, who uses it, and its rent.

-- +goose Up

-- An organisation's telephony account: its row is the lock under which credentials, numbers and what points at them change
-- together. It comes after the wallet's in the order of locks, and before the number's own row.
CREATE TABLE telephony_accounts (
    org_id         uuid PRIMARY KEY REFERENCES organizations,
    -- Where new numbers are bought: in the account that we keep for the organisation, or in its own.
    mode           text NOT NULL DEFAULT 'managed' CONSTRAINT telephony_accounts_mode CHECK (mode IN ('managed', 'byoc')),
    -- Twilio's name for the subaccount that we keep for it: made once.
    subaccount_sid text CONSTRAINT telephony_accounts_subaccount_unique UNIQUE,
    -- Twilio was asked to make it at this moment, and it is not known what came of it.
    asked_at       timestamptz,
    -- Somebody is asking until then.
    busy_until     timestamptz,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    CONSTRAINT telephony_accounts_made CHECK (subaccount_sid IS NULL OR asked_at IS NULL)
);

CREATE TABLE credentials (
    id          uuid PRIMARY KEY,
    org_id      uuid NOT NULL REFERENCES organizations,
    provider    text NOT NULL CONSTRAINT credentials_provider CHECK (provider IN ('twilio')),
    -- managed: of the subaccount that we keep; byoc: the customer's own, which only the customer removes.
    kind        text NOT NULL CONSTRAINT credentials_kind CHECK (kind IN ('managed', 'byoc')),
    account_sid text NOT NULL,
    -- The token, AES-256-GCM by Tink under organisation, provider and this row's id; key_id is the key's in the keyset.
    sealed      bytea NOT NULL,
    key_id      bigint NOT NULL,
    last_four   text NOT NULL CONSTRAINT credentials_last_four CHECK (length(last_four) = 4),
    -- working: the provider took it when it was last tried; refused: it did not, and note says why.
    state       text NOT NULL CONSTRAINT credentials_state CHECK (state IN ('working', 'refused')),
    note        text NOT NULL DEFAULT '',
    -- An actor of the audit log.
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    tested_at   timestamptz NOT NULL,
    CONSTRAINT credentials_one_of_a_kind UNIQUE (org_id, provider, kind)
);
CREATE INDEX credentials_by_key ON credentials (key_id, id);

CREATE TABLE numbers (
    id             uuid PRIMARY KEY,
    org_id         uuid NOT NULL REFERENCES organizations,
    phone_number   text NOT NULL CONSTRAINT numbers_e164 CHECK (phone_number ~ '^\+[1-9][0-9]{6,14}$'),
    country        text NOT NULL CONSTRAINT numbers_country CHECK (country ~ '^[A-Z]{2}$'),
    kind           text NOT NULL CONSTRAINT numbers_kind CHECK (kind IN ('managed', 'byoc')),
    -- unknown: a provider was asked and it is not known what came of it. failed: nothing is left of it and nothing was charged.
    state          text NOT NULL CONSTRAINT numbers_state CHECK (state IN ('provisioning', 'unknown', 'active', 'releasing', 'released', 'failed')),
    -- What is to be done next, or is being done.
    step           text NOT NULL CONSTRAINT numbers_step CHECK (step IN ('', 'subaccount', 'purchase', 'vapi_import', 'credential', 'activate',
                       'undo_import', 'undo_purchase', 'vapi_delete', 'twilio_release', 'finish')),
    -- Where buying it failed; while it is set and the state is not failed, what came before is being undone.
    failed_step    text NOT NULL DEFAULT '' CONSTRAINT numbers_failed_step
                       CHECK (failed_step IN ('', 'subaccount', 'purchase', 'vapi_import', 'credential', 'activate')),
    -- Why it stands as it does, as a sentence for people.
    note           text NOT NULL DEFAULT '',
    -- What pays for it, and the version of the price by which its months are charged. A number in the customer's own account
    -- has neither: its provider's bill is the customer's.
    hold_id        uuid CONSTRAINT numbers_hold_unique UNIQUE REFERENCES holds,
    price_id       bigint,
    monthly_pence  bigint NOT NULL DEFAULT 0 CONSTRAINT numbers_monthly CHECK (monthly_pence >= 0),
    -- The Twilio account that it is in, the credential by which we act there, and the providers' names for it; all gone when
    -- it has ended.
    account_sid    text,
    credential_id  uuid REFERENCES credentials,
    sid            text CONSTRAINT numbers_sid_unique UNIQUE,
    vapi_id        text CONSTRAINT numbers_vapi_unique UNIQUE,
    -- The idempotency key, and SHA-256 of what was asked with it: same key, same question, same answer.
    key            text NOT NULL CONSTRAINT numbers_key_length CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint    bytea NOT NULL CONSTRAINT numbers_fingerprint_length CHECK (octet_length(fingerprint) = 32),
    actor          text NOT NULL,
    created_at     timestamptz NOT NULL,
    -- The provider was asked for the step at this moment, and what came of it is not stored.
    asked_at       timestamptz,
    -- How often it was looked for at the provider since, and how often the step was tried.
    looks          int NOT NULL DEFAULT 0,
    tries          int NOT NULL DEFAULT 0,
    -- When it goes on, and until when somebody has it in hand.
    next_at        timestamptz,
    busy_until     timestamptz,
    activated_at   timestamptz,
    -- How many months were charged after the first, which the purchase pays for, and until when it is paid.
    months         int NOT NULL DEFAULT 0 CONSTRAINT numbers_months CHECK (months >= 0),
    paid_until     timestamptz,
    -- Since when a month of it is owed.
    unpaid_since   timestamptz,
    releasing_at   timestamptz,
    released_by    text NOT NULL DEFAULT '',
    release_reason text NOT NULL DEFAULT '',
    ended_at       timestamptz,
    CONSTRAINT numbers_key_unique UNIQUE (org_id, key),
    CONSTRAINT numbers_paid CHECK ((kind = 'managed') = (hold_id IS NOT NULL AND price_id IS NOT NULL) AND (kind = 'managed' OR monthly_pence = 0)),
    CONSTRAINT numbers_ended CHECK ((ended_at IS NOT NULL) = (state IN ('released', 'failed')) AND (step = '') = (state IN ('active', 'released', 'failed'))),
    CONSTRAINT numbers_goes_on CHECK ((next_at IS NULL) = (step = '')),
    CONSTRAINT numbers_active CHECK (state <> 'active' OR account_sid IS NOT NULL AND credential_id IS NOT NULL AND sid IS NOT NULL AND vapi_id IS NOT NULL
        AND activated_at IS NOT NULL AND (kind = 'managed') = (paid_until IS NOT NULL)),
    CONSTRAINT numbers_nothing_left CHECK (ended_at IS NULL OR credential_id IS NULL AND sid IS NULL AND vapi_id IS NULL),
    CONSTRAINT numbers_failed CHECK (state <> 'failed' OR failed_step <> '')
);
-- One live owner of a number, whoever wants it at the same moment.
CREATE UNIQUE INDEX numbers_one_owner ON numbers (phone_number) WHERE state IN ('provisioning', 'unknown', 'active', 'releasing');
CREATE INDEX numbers_by_org ON numbers (org_id, id);
CREATE INDEX numbers_by_credential ON numbers (credential_id) WHERE credential_id IS NOT NULL;
CREATE INDEX numbers_under_way ON numbers (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX numbers_rented ON numbers (paid_until) WHERE state = 'active' AND paid_until IS NOT NULL;
CREATE INDEX numbers_unpaid ON numbers (unpaid_since) WHERE state = 'active' AND unpaid_since IS NOT NULL;

CREATE TABLE agents (
    id         uuid PRIMARY KEY,
    org_id     uuid NOT NULL REFERENCES organizations,
    name       text NOT NULL CONSTRAINT agents_name_length CHECK (length(name) BETWEEN 1 AND 100),
    -- The number that it answers; only ever an active one of the same organisation.
    number_id  uuid REFERENCES numbers,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX agents_by_org ON agents (org_id, id);
CREATE INDEX agents_by_number ON agents (number_id) WHERE number_id IS NOT NULL;

-- A month's rent is owed, so it is taken whether or not the money is there; its reference names the number and the month.
ALTER TABLE ledger_transactions DROP CONSTRAINT ledger_transactions_kind;
ALTER TABLE ledger_transactions ADD CONSTRAINT ledger_transactions_kind
    CHECK (kind IN ('top_up', 'adjustment', 'bonus', 'usage', 'refund', 'dispute', 'rent'));

ALTER TABLE notices DROP CONSTRAINT notices_kind;
ALTER TABLE notices ADD CONSTRAINT notices_kind CHECK (kind IN ('low_balance', 'topup_succeeded', 'topup_failed',
    'card_attention', 'autotopup_ended', 'dispute_opened', 'dispute_closed', 'account_closed',
    'number_rent_due', 'number_rent_unpaid', 'number_released'));

GRANT SELECT, INSERT ON telephony_accounts TO ringfence_app;
GRANT UPDATE (mode, subaccount_sid, asked_at, busy_until, updated_at) ON telephony_accounts TO ringfence_app;
GRANT SELECT ON telephony_accounts TO ringfence_system;

GRANT SELECT, INSERT, DELETE ON credentials TO ringfence_app;
GRANT UPDATE (account_sid, sealed, key_id, last_four, state, note, updated_at, tested_at) ON credentials TO ringfence_app;
-- Who looks at everything sees which credentials there are, but not what is sealed in them.
GRANT SELECT (id, org_id, provider, kind, account_sid, key_id, last_four, state, note, created_by, created_at, updated_at, tested_at)
    ON credentials TO ringfence_system;

GRANT SELECT, INSERT ON numbers TO ringfence_app;
GRANT UPDATE (state, step, failed_step, note, account_sid, credential_id, sid, vapi_id, asked_at, looks, tries, next_at, busy_until, activated_at,
              months, paid_until, unpaid_since, releasing_at, released_by, release_reason, ended_at) ON numbers TO ringfence_app;
GRANT SELECT ON numbers TO ringfence_system;

GRANT SELECT, INSERT ON agents TO ringfence_app;
GRANT UPDATE (name, number_id, updated_at) ON agents TO ringfence_app;
GRANT SELECT ON agents TO ringfence_system;

ALTER TABLE telephony_accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE telephony_accounts FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON telephony_accounts TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON telephony_accounts FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON telephony_accounts FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE credentials ENABLE ROW LEVEL SECURITY;
ALTER TABLE credentials FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON credentials TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON credentials FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON credentials FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE numbers ENABLE ROW LEVEL SECURITY;
ALTER TABLE numbers FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON numbers TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON numbers FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON numbers FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE agents ENABLE ROW LEVEL SECURITY;
ALTER TABLE agents FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON agents TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON agents FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON agents FOR SELECT TO ringfence_owner USING (true);
