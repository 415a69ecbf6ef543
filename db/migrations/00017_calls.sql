-- Agents, the calls that they make and take, texts that come in to an organisation's own numbers, caller ids that were proven,
-- and for how long what people said is kept.

-- +goose Up

-- What an agent says and how; the assistant at Vapi follows this row, which alone is the truth.
ALTER TABLE agents
    ADD COLUMN active          boolean NOT NULL DEFAULT true,
    ADD COLUMN voice           text NOT NULL DEFAULT 'Elliot' CONSTRAINT agents_voice CHECK (voice ~ '^[A-Za-z]{2,40}$'),
    ADD COLUMN first_message   text NOT NULL DEFAULT '' CONSTRAINT agents_first_message_length CHECK (length(first_message) <= 500),
    ADD COLUMN prompt          text NOT NULL DEFAULT '' CONSTRAINT agents_prompt_length CHECK (length(prompt) <= 16000),
    ADD COLUMN knowledge       boolean NOT NULL DEFAULT false,
    -- Where it passes callers on to; empty for nowhere.
    ADD COLUMN forward_to      text NOT NULL DEFAULT '' CONSTRAINT agents_forward_to CHECK (forward_to ~ '^(\+[1-9][0-9]{6,14})?$'),
    -- Calls are recorded only where the first thing said tells so.
    ADD COLUMN recorded        boolean NOT NULL DEFAULT false,
    ADD COLUMN consent         text NOT NULL DEFAULT '' CONSTRAINT agents_consent_length CHECK (length(consent) <= 300),
    ADD COLUMN key             text CONSTRAINT agents_key_length CHECK (length(key) BETWEEN 1 AND 255),
    ADD COLUMN fingerprint     bytea CONSTRAINT agents_fingerprint_length CHECK (octet_length(fingerprint) = 32),
    -- Raised by every change that Vapi has to hear of; the one that Vapi has; and since when somebody should tell it.
    ADD COLUMN revision        bigint NOT NULL DEFAULT 1,
    ADD COLUMN synced_revision bigint NOT NULL DEFAULT 0,
    ADD COLUMN sync_at         timestamptz,
    -- waiting: not told yet; synced: Vapi has it; refused: Vapi does not take it, and the note says why; gone: deleted there.
    ADD COLUMN sync_state      text NOT NULL DEFAULT 'waiting' CONSTRAINT agents_sync_state CHECK (sync_state IN ('waiting', 'synced', 'refused', 'gone')),
    ADD COLUMN sync_note       text NOT NULL DEFAULT '',
    ADD COLUMN sync_tries      int NOT NULL DEFAULT 0,
    -- Vapi was asked to make it at this moment, and it is not known what came of it.
    ADD COLUMN sync_asked_at   timestamptz,
    ADD COLUMN sync_busy_until timestamptz,
    ADD COLUMN assistant_id    text CONSTRAINT agents_assistant_unique UNIQUE,
    -- An agent that was deleted keeps its row, since its calls name it.
    ADD COLUMN deleted_at      timestamptz,
    ADD CONSTRAINT agents_key_unique UNIQUE (org_id, key),
    ADD CONSTRAINT agents_key_whole CHECK (key IS NULL OR fingerprint IS NOT NULL),
    ADD CONSTRAINT agents_recorded CHECK (NOT recorded OR consent <> ''),
    ADD CONSTRAINT agents_revisions CHECK (synced_revision <= revision),
    ADD CONSTRAINT agents_deleted CHECK (deleted_at IS NULL OR number_id IS NULL),
    ADD CONSTRAINT agents_gone CHECK (sync_state <> 'gone' OR deleted_at IS NOT NULL AND assistant_id IS NULL);
CREATE INDEX agents_to_sync ON agents (sync_at) WHERE sync_at IS NOT NULL;
GRANT UPDATE (active, voice, first_message, prompt, knowledge, forward_to, recorded, consent, revision, synced_revision, sync_at, sync_state, sync_note,
              sync_tries, sync_asked_at, sync_busy_until, assistant_id, deleted_at) ON agents TO ringfence_app;

-- Numbers that an organisation has shown to be its own by answering them: they may be shown when a call is passed on.
CREATE TABLE caller_ids (
    id           uuid PRIMARY KEY,
    org_id       uuid NOT NULL REFERENCES organizations,
    phone_number text NOT NULL CONSTRAINT caller_ids_e164 CHECK (phone_number ~ '^\+[1-9][0-9]{6,14}$'),
    -- waiting: Twilio calls the number and asks for the code.
    state        text NOT NULL CONSTRAINT caller_ids_state CHECK (state IN ('waiting', 'verified', 'failed', 'removing', 'removed')),
    -- What is to be typed on the phone, as long as it is waited for.
    code         text NOT NULL DEFAULT '',
    -- The Twilio account that it was proven to, and Twilio's name for it there.
    account_sid  text NOT NULL,
    sid          text CONSTRAINT caller_ids_sid_unique UNIQUE,
    note         text NOT NULL DEFAULT '',
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL,
    verified_at  timestamptz,
    looked_at    timestamptz,
    ended_at     timestamptz,
    CONSTRAINT caller_ids_code CHECK (code = '' OR state = 'waiting'),
    CONSTRAINT caller_ids_verified CHECK (state <> 'verified' OR sid IS NOT NULL AND verified_at IS NOT NULL),
    CONSTRAINT caller_ids_ended CHECK ((ended_at IS NOT NULL) = (state IN ('failed', 'removed')))
);
CREATE UNIQUE INDEX caller_ids_one ON caller_ids (org_id, phone_number) WHERE ended_at IS NULL;
CREATE INDEX caller_ids_by_org ON caller_ids (org_id, id);
CREATE INDEX caller_ids_unfinished ON caller_ids (state, created_at) WHERE state IN ('waiting', 'removing');

-- The proven number that is shown when the agent passes a caller on; NULL: the agent's own.
ALTER TABLE agents ADD COLUMN caller_id uuid REFERENCES caller_ids;
GRANT UPDATE (caller_id) ON agents TO ringfence_app;

CREATE TABLE calls (
    id              uuid PRIMARY KEY,
    org_id          uuid NOT NULL REFERENCES organizations,
    direction       text NOT NULL CONSTRAINT calls_direction CHECK (direction IN ('outbound', 'inbound')),
    number_id       uuid NOT NULL REFERENCES numbers,
    -- NULL: a call to a number that nobody answers.
    agent_id        uuid REFERENCES agents,
    -- The number's own digits at the time, and whom it was with; masked when that person was erased.
    our_number      text NOT NULL,
    party           text NOT NULL,
    -- queued: paid for, Vapi was not asked; placing: Vapi is being asked; unknown: its answer is lost; ringing: Vapi has it;
    -- ending: it is over, and what it was is being found out; completed: somebody spoke; unanswered: nobody did;
    -- failed: it was not made; refused: a call to us that was not taken.
    state           text NOT NULL CONSTRAINT calls_state
                        CHECK (state IN ('queued', 'placing', 'unknown', 'ringing', 'in_progress', 'ending', 'completed', 'unanswered', 'failed', 'refused')),
    hold_id         uuid CONSTRAINT calls_hold_unique UNIQUE REFERENCES holds,
    -- What the wallet was charged for it.
    amount_pence    bigint NOT NULL DEFAULT 0 CONSTRAINT calls_amount CHECK (amount_pence >= 0),
    -- What was asked of the knowledge base in it cost.
    lookups         int NOT NULL DEFAULT 0,
    lookups_pence   bigint NOT NULL DEFAULT 0 CONSTRAINT calls_lookups CHECK (lookups_pence >= 0 AND lookups >= 0),
    -- The longest that it may last, how long the hold pays for, and how long it was.
    ceiling_seconds int NOT NULL CONSTRAINT calls_ceiling CHECK (ceiling_seconds >= 0),
    covered_seconds int NOT NULL CONSTRAINT calls_covered CHECK (covered_seconds >= 0),
    seconds         int NOT NULL DEFAULT 0 CONSTRAINT calls_seconds CHECK (seconds >= 0),
    -- Vapi's name for it, where Vapi takes commands about it, and Twilio's name for it.
    vapi_id         text CONSTRAINT calls_vapi_unique UNIQUE,
    control_url     text NOT NULL DEFAULT '',
    provider_sid    text NOT NULL DEFAULT '',
    -- Vapi's word for why it ended, and ours, as a sentence for people.
    ended_reason    text NOT NULL DEFAULT '',
    note            text NOT NULL DEFAULT '',
    -- What Vapi charges us for it, in millionths of a dollar.
    cost_micros     bigint,
    -- The idempotency key, and SHA-256 of what was asked with it; of an inbound call Vapi's name for it.
    key             text NOT NULL CONSTRAINT calls_key_length CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint     bytea NOT NULL CONSTRAINT calls_fingerprint_length CHECK (octet_length(fingerprint) = 32),
    actor           text NOT NULL,
    created_at      timestamptz NOT NULL,
    -- When Vapi was asked, took it, and somebody began to speak; when it was last heard to be alive; when Vapi said that it does
    -- not know it; when it was first heard to be over; and when it ended.
    asked_at        timestamptz,
    accepted_at     timestamptz,
    started_at      timestamptz,
    heard_at        timestamptz,
    missing_at      timestamptz,
    ending_at       timestamptz,
    ended_at        timestamptz,
    -- When it is looked at next, when its hold has to grow, and how often it was looked for.
    look_at         timestamptz,
    fund_at         timestamptz,
    looks           int NOT NULL DEFAULT 0,
    -- Since when we want it to end, and why.
    hangup_at       timestamptz,
    hangup_why      text NOT NULL DEFAULT '' CONSTRAINT calls_hangup_why CHECK (hangup_why IN ('', 'unfunded', 'ceiling', 'asked')),
    -- What was said; erased with the organisation's retention, here and at Vapi.
    reported_at     timestamptz,
    transcript      text NOT NULL DEFAULT '',
    recording_url   text NOT NULL DEFAULT '',
    erased_at       timestamptz,
    vapi_erased_at  timestamptz,
    CONSTRAINT calls_key_unique UNIQUE (org_id, direction, key),
    CONSTRAINT calls_ended CHECK ((ended_at IS NULL) = (state IN ('queued', 'placing', 'unknown', 'ringing', 'in_progress', 'ending'))),
    CONSTRAINT calls_look CHECK ((look_at IS NULL) = (ended_at IS NOT NULL)),
    CONSTRAINT calls_paid CHECK ((hold_id IS NULL) = (state = 'refused')),
    CONSTRAINT calls_charged CHECK (state = 'completed' OR amount_pence = 0 AND seconds = 0),
    CONSTRAINT calls_asked CHECK (asked_at IS NOT NULL OR state IN ('queued', 'failed', 'refused')),
    CONSTRAINT calls_hangup CHECK ((hangup_at IS NULL) = (hangup_why = '')),
    CONSTRAINT calls_erased CHECK (erased_at IS NULL OR transcript = '' AND recording_url = '')
);
CREATE INDEX calls_by_org ON calls (org_id, id);
CREATE INDEX calls_by_agent ON calls (org_id, agent_id, created_at) INCLUDE (amount_pence, lookups_pence, seconds) WHERE agent_id IS NOT NULL;
CREATE INDEX calls_by_party ON calls (org_id, party);
CREATE INDEX calls_live ON calls (look_at) WHERE ended_at IS NULL;
CREATE INDEX calls_kept ON calls (org_id, ended_at) WHERE ended_at IS NOT NULL AND erased_at IS NULL;
CREATE INDEX calls_to_erase ON calls (erased_at) WHERE erased_at IS NOT NULL AND vapi_id IS NOT NULL AND vapi_erased_at IS NULL;

-- Texts that came in to an organisation's own numbers. (Those to the sender that all share are in inbound_texts.)
CREATE TABLE inbound_messages (
    id          uuid PRIMARY KEY,
    org_id      uuid NOT NULL REFERENCES organizations,
    number_id   uuid NOT NULL REFERENCES numbers,
    sid         text NOT NULL CONSTRAINT inbound_messages_sid_unique UNIQUE,
    sender      text NOT NULL,
    recipient   text NOT NULL,
    body        text NOT NULL CONSTRAINT inbound_messages_body_length CHECK (length(body) <= 1600),
    -- How many pictures or files came with it; they stay with Twilio.
    media       int NOT NULL DEFAULT 0 CONSTRAINT inbound_messages_media CHECK (media >= 0),
    meaning     text NOT NULL CONSTRAINT inbound_messages_meaning CHECK (meaning IN ('stop', 'start', 'help', 'none')),
    received_at timestamptz NOT NULL,
    erased_at   timestamptz,
    CONSTRAINT inbound_messages_erased CHECK (erased_at IS NULL OR body = '')
);
CREATE INDEX inbound_messages_by_org ON inbound_messages (org_id, id);
CREATE INDEX inbound_messages_by_sender ON inbound_messages (org_id, sender);
CREATE INDEX inbound_messages_kept ON inbound_messages (org_id, received_at) WHERE erased_at IS NULL;

-- For how many days an organisation keeps what people said and wrote; without a row, for 90.
CREATE TABLE retentions (
    org_id     uuid PRIMARY KEY REFERENCES organizations,
    days       int NOT NULL CONSTRAINT retentions_days CHECK (days BETWEEN 1 AND 3650),
    updated_at timestamptz NOT NULL
);

-- Texts that were sent are forgotten as calls are.
ALTER TABLE messages ADD COLUMN erased_at timestamptz,
    DROP CONSTRAINT messages_body_length,
    ADD CONSTRAINT messages_body_length CHECK (length(body) <= 1600 AND (erased_at IS NULL) = (body <> ''));
CREATE INDEX messages_by_recipient ON messages (org_id, recipient);
CREATE INDEX messages_kept ON messages (org_id, ended_at) WHERE ended_at IS NOT NULL AND erased_at IS NULL;
GRANT UPDATE (recipient, body, fingerprint, erased_at) ON messages TO ringfence_app;

-- An opt-out from an organisation's own number is that organisation's, also when the number was another's before.
ALTER TABLE opt_outs DROP CONSTRAINT opt_outs_unique, ADD CONSTRAINT opt_outs_unique UNIQUE NULLS NOT DISTINCT (sender, recipient, org_id);
GRANT INSERT, DELETE ON opt_outs TO ringfence_app;
DROP POLICY tenant ON opt_outs;
CREATE POLICY tenant ON opt_outs TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY shared ON opt_outs FOR SELECT TO ringfence_app USING (org_id IS NULL);

-- What paid for them forgets whom it was for; what it cost stays.
GRANT UPDATE (destination) ON holds TO ringfence_app;

GRANT SELECT, INSERT ON caller_ids TO ringfence_app;
GRANT UPDATE (state, code, sid, note, verified_at, looked_at, ended_at) ON caller_ids TO ringfence_app;
GRANT SELECT ON caller_ids TO ringfence_system;

GRANT SELECT, INSERT ON calls TO ringfence_app;
GRANT UPDATE (party, state, amount_pence, lookups, lookups_pence, covered_seconds, seconds, vapi_id, control_url, provider_sid, ended_reason, note, cost_micros,
              fingerprint, asked_at, accepted_at, started_at, heard_at, missing_at, ending_at, ended_at, look_at, fund_at, looks, hangup_at, hangup_why,
              reported_at, transcript, recording_url, erased_at, vapi_erased_at) ON calls TO ringfence_app;
GRANT SELECT ON calls TO ringfence_system;

GRANT SELECT, INSERT ON inbound_messages TO ringfence_app;
GRANT UPDATE (sender, body, erased_at) ON inbound_messages TO ringfence_app;
GRANT SELECT ON inbound_messages TO ringfence_system;

GRANT SELECT, INSERT ON retentions TO ringfence_app;
GRANT UPDATE (days, updated_at) ON retentions TO ringfence_app;
GRANT SELECT ON retentions TO ringfence_system;

ALTER TABLE caller_ids ENABLE ROW LEVEL SECURITY;
ALTER TABLE caller_ids FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON caller_ids TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON caller_ids FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON caller_ids FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE calls ENABLE ROW LEVEL SECURITY;
ALTER TABLE calls FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON calls TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON calls FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON calls FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE inbound_messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE inbound_messages FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON inbound_messages TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON inbound_messages FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON inbound_messages FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE retentions ENABLE ROW LEVEL SECURITY;
ALTER TABLE retentions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON retentions TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON retentions FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON retentions FOR SELECT TO ringfence_owner USING (true);
