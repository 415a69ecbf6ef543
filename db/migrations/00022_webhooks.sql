-- What an organisation's own programs are told: endpoints, an outbox that the database itself fills in the transaction of
-- what happened, and every attempt to deliver (docs/decisions/0031).

-- +goose Up
CREATE TABLE webhook_endpoints (
    id             uuid PRIMARY KEY,
    org_id         uuid NOT NULL REFERENCES organizations,
    url            text NOT NULL CONSTRAINT webhook_endpoints_url_length CHECK (length(url) BETWEEN 1 AND 2048),
    -- What it is told of.
    types          text[] NOT NULL CONSTRAINT webhook_endpoints_types CHECK (cardinality(types) > 0 AND types <@ ARRAY[
                       'wallet.credited', 'wallet.low', 'top_up.failed', 'number.active', 'number.released', 'call.ended',
                       'message.received', 'message.delivered', 'message.failed']),
    -- The secret that signs, sealed for this row, and the id of the key that sealed it; while it is being rolled the one
    -- before signs too, until old_until. A removed endpoint has none.
    sealed         bytea,
    key_id         bigint NOT NULL,
    old_sealed     bytea,
    old_key_id     bigint,
    old_until      timestamptz,
    -- Since when nothing was delivered that was tried; null: the last attempt was good, or there was none.
    failing_since  timestamptz,
    -- Nothing is sent while it is off; why is a sentence for people, empty when its owner switched it off.
    disabled_at    timestamptz,
    disabled_why   text NOT NULL DEFAULT '',
    -- The idempotency keys of the requests that made it and that rolled its secret last, and SHA-256 of what was asked.
    key            text NOT NULL CONSTRAINT webhook_endpoints_key_length CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint    bytea NOT NULL CONSTRAINT webhook_endpoints_fingerprint_length CHECK (octet_length(fingerprint) = 32),
    roll_key       text,
    created_by     text NOT NULL,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    removed_at     timestamptz,
    CONSTRAINT webhook_endpoints_key_unique UNIQUE (org_id, key),
    CONSTRAINT webhook_endpoints_sealed CHECK ((sealed IS NULL) = (removed_at IS NOT NULL)),
    CONSTRAINT webhook_endpoints_old CHECK ((old_sealed IS NULL) = (old_until IS NULL) AND (old_sealed IS NULL) = (old_key_id IS NULL))
);
CREATE UNIQUE INDEX webhook_endpoints_url_unique ON webhook_endpoints (org_id, url) WHERE removed_at IS NULL;

CREATE TABLE webhook_events (
    id          uuid PRIMARY KEY,
    org_id      uuid NOT NULL REFERENCES organizations,
    type        text NOT NULL,
    -- The row that it is about: when what people said in that row is forgotten, so is this.
    subject     text NOT NULL,
    data        jsonb NOT NULL,
    happened_at timestamptz NOT NULL
);
CREATE INDEX webhook_events_by_subject ON webhook_events (org_id, subject);
CREATE INDEX webhook_events_by_age ON webhook_events (happened_at);

CREATE TABLE webhook_deliveries (
    id              uuid PRIMARY KEY,
    org_id          uuid NOT NULL REFERENCES organizations,
    endpoint_id     uuid NOT NULL REFERENCES webhook_endpoints,
    event_id        uuid NOT NULL REFERENCES webhook_events ON DELETE CASCADE,
    state           text NOT NULL CONSTRAINT webhook_deliveries_state CHECK (state IN ('queued', 'delivered', 'failed')),
    -- How often it was tried in all, and since somebody asked for it last.
    attempts        int NOT NULL DEFAULT 0,
    tries           int NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    -- Until when somebody has it in hand.
    busy_until      timestamptz,
    created_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    CONSTRAINT webhook_deliveries_once UNIQUE (event_id, endpoint_id),
    CONSTRAINT webhook_deliveries_ended CHECK ((ended_at IS NULL) = (state = 'queued'))
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next_attempt_at) WHERE state = 'queued';
CREATE INDEX webhook_deliveries_in_hand ON webhook_deliveries (endpoint_id) WHERE state = 'queued' AND busy_until IS NOT NULL;
CREATE INDEX webhook_deliveries_by_endpoint ON webhook_deliveries (endpoint_id, created_at, id);

CREATE TABLE webhook_attempts (
    delivery_id uuid NOT NULL REFERENCES webhook_deliveries ON DELETE CASCADE,
    n           int NOT NULL,
    org_id      uuid NOT NULL REFERENCES organizations,
    at          timestamptz NOT NULL,
    took_ms     int NOT NULL,
    -- The answer's status and first bytes; 0 and why not, as a sentence for people, where there was none.
    status      int NOT NULL,
    answer      text NOT NULL DEFAULT '' CONSTRAINT webhook_attempts_answer_length CHECK (octet_length(answer) <= 4096),
    error       text NOT NULL DEFAULT '',
    PRIMARY KEY (delivery_id, n)
);

ALTER TABLE notices DROP CONSTRAINT notices_kind;
ALTER TABLE notices ADD CONSTRAINT notices_kind CHECK (kind IN ('low_balance', 'topup_succeeded', 'topup_failed',
    'card_attention', 'autotopup_ended', 'dispute_opened', 'dispute_closed', 'account_closed',
    'number_rent_due', 'number_rent_unpaid', 'number_released', 'number_failed', 'webhook_disabled'));

ALTER TABLE api_keys DROP CONSTRAINT api_keys_scopes;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_scopes CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY[
    'wallet:read', 'holds:write', 'messages:write', 'calls:write', 'numbers:read', 'numbers:write', 'knowledge:read',
    'agents:read', 'agents:write', 'calls:read', 'messages:read', 'webhooks:read', 'webhooks:write']);

-- The outbox. Whoever changes a row that an endpoint wants to hear of writes the event with it, in the same transaction,
-- because the database does: no statement of the program can forget it, and none waits for it where nobody listens.

-- +goose StatementBegin
CREATE FUNCTION webhook_wanted(org uuid, kind text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM webhook_endpoints e WHERE e.org_id = org AND e.removed_at IS NULL AND e.disabled_at IS NULL AND kind = ANY (e.types))
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION tell_webhooks(org uuid, kind text, about uuid, happened timestamptz, facts jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    event uuid := gen_random_uuid();
BEGIN
    INSERT INTO webhook_events (id, org_id, type, subject, data, happened_at) VALUES (event, org, kind, about, facts, happened);
    INSERT INTO webhook_deliveries (id, org_id, endpoint_id, event_id, state, next_attempt_at, created_at)
    SELECT gen_random_uuid(), org, e.id, event, 'queued', happened, happened FROM webhook_endpoints e
    WHERE e.org_id = org AND e.removed_at IS NULL AND e.disabled_at IS NULL AND kind = ANY (e.types);
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION credit_tells_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF webhook_wanted(NEW.org_id, 'wallet.credited') THEN
        PERFORM tell_webhooks(NEW.org_id, 'wallet.credited', NEW.transaction_id, NEW.created_at, jsonb_build_object(
            'transaction_id', NEW.transaction_id, 'top_up_id', NEW.top_up_id, 'amount_pence', NEW.amount_pence, 'currency', 'gbp'));
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER tells_webhooks AFTER INSERT ON credits FOR EACH ROW EXECUTE FUNCTION credit_tells_webhooks();

-- +goose StatementBegin
CREATE FUNCTION low_balance_tells_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF webhook_wanted(NEW.org_id, 'wallet.low') THEN
        PERFORM tell_webhooks(NEW.org_id, 'wallet.low', NEW.id, NEW.raised_at, jsonb_build_object(
            'available_pence', NEW.data -> 'available_pence', 'mark_pence', NEW.data -> 'mark_pence', 'currency', 'gbp'));
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER tells_webhooks AFTER INSERT ON notices FOR EACH ROW WHEN (NEW.kind = 'low_balance') EXECUTE FUNCTION low_balance_tells_webhooks();

-- +goose StatementBegin
CREATE FUNCTION top_up_tells_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF webhook_wanted(NEW.org_id, 'top_up.failed') THEN
        PERFORM tell_webhooks(NEW.org_id, 'top_up.failed', NEW.id, NEW.updated_at, jsonb_build_object(
            'id', NEW.id, 'amount_pence', NEW.amount_pence, 'currency', 'gbp'));
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER tells_webhooks AFTER UPDATE OF state ON top_ups FOR EACH ROW
    WHEN (NEW.state = 'failed' AND OLD.state <> 'failed') EXECUTE FUNCTION top_up_tells_webhooks();

-- +goose StatementBegin
CREATE FUNCTION number_tells_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF webhook_wanted(NEW.org_id, 'number.' || NEW.state) THEN
        PERFORM tell_webhooks(NEW.org_id, 'number.' || NEW.state, NEW.id, coalesce(NEW.ended_at, NEW.activated_at, NEW.created_at), jsonb_build_object(
            'id', NEW.id, 'phone_number', NEW.phone_number, 'country', NEW.country, 'state', NEW.state, 'monthly_pence', NEW.monthly_pence));
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER tells_webhooks AFTER UPDATE OF state ON numbers FOR EACH ROW
    WHEN (NEW.state IN ('active', 'released') AND OLD.state <> NEW.state) EXECUTE FUNCTION number_tells_webhooks();

-- +goose StatementBegin
CREATE FUNCTION call_tells_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF webhook_wanted(NEW.org_id, 'call.ended') THEN
        PERFORM tell_webhooks(NEW.org_id, 'call.ended', NEW.id, NEW.ended_at, jsonb_build_object(
            'id', NEW.id, 'direction', NEW.direction, 'state', NEW.state, 'number', NEW.our_number, 'party', NEW.party, 'agent_id', NEW.agent_id,
            'seconds', NEW.seconds, 'amount_pence', NEW.amount_pence, 'created_at', to_json(NEW.created_at), 'started_at', to_json(NEW.started_at)));
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER tells_webhooks_at_once AFTER INSERT ON calls FOR EACH ROW WHEN (NEW.ended_at IS NOT NULL) EXECUTE FUNCTION call_tells_webhooks();
CREATE TRIGGER tells_webhooks AFTER UPDATE OF ended_at ON calls FOR EACH ROW
    WHEN (NEW.ended_at IS NOT NULL AND OLD.ended_at IS NULL) EXECUTE FUNCTION call_tells_webhooks();

-- +goose StatementBegin
CREATE FUNCTION message_tells_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    kind text := CASE NEW.state WHEN 'delivered' THEN 'message.delivered' ELSE 'message.failed' END;
BEGIN
    IF webhook_wanted(NEW.org_id, kind) THEN
        PERFORM tell_webhooks(NEW.org_id, kind, NEW.id, NEW.ended_at, jsonb_build_object(
            'id', NEW.id, 'from', NEW.sender, 'to', NEW.recipient, 'state', NEW.state, 'segments', NEW.segments, 'amount_pence', NEW.amount_pence, 'note', NEW.note));
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER tells_webhooks AFTER UPDATE OF state ON messages FOR EACH ROW
    WHEN (NEW.ended_at IS NOT NULL AND OLD.state <> NEW.state) EXECUTE FUNCTION message_tells_webhooks();

-- +goose StatementBegin
CREATE FUNCTION inbound_message_tells_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF webhook_wanted(NEW.org_id, 'message.received') THEN
        PERFORM tell_webhooks(NEW.org_id, 'message.received', NEW.id, NEW.received_at, jsonb_build_object(
            'id', NEW.id, 'number_id', NEW.number_id, 'from', NEW.sender, 'to', NEW.recipient, 'body', NEW.body, 'media', NEW.media, 'meaning', NEW.meaning));
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER tells_webhooks AFTER INSERT ON inbound_messages FOR EACH ROW EXECUTE FUNCTION inbound_message_tells_webhooks();

-- What people said and wrote is forgotten in the outbox with the row itself, sent or not.
-- +goose StatementBegin
CREATE FUNCTION forget_in_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM webhook_events WHERE org_id = NEW.org_id AND subject = NEW.id::text;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER forgets_in_webhooks AFTER UPDATE OF erased_at ON calls FOR EACH ROW WHEN (NEW.erased_at IS NOT NULL) EXECUTE FUNCTION forget_in_webhooks();
CREATE TRIGGER forgets_in_webhooks AFTER UPDATE OF erased_at ON messages FOR EACH ROW WHEN (NEW.erased_at IS NOT NULL) EXECUTE FUNCTION forget_in_webhooks();
CREATE TRIGGER forgets_in_webhooks AFTER UPDATE OF erased_at ON inbound_messages FOR EACH ROW WHEN (NEW.erased_at IS NOT NULL) EXECUTE FUNCTION forget_in_webhooks();

-- Tenants keep their endpoints and see what was sent; who goes through all organisations sees no secret.
GRANT SELECT, INSERT ON webhook_endpoints TO ringfence_app;
GRANT UPDATE (url, types, sealed, key_id, old_sealed, old_key_id, old_until, failing_since, disabled_at, disabled_why, roll_key, updated_at, removed_at)
    ON webhook_endpoints TO ringfence_app;
GRANT SELECT, INSERT, DELETE ON webhook_events TO ringfence_app;
GRANT SELECT, INSERT ON webhook_deliveries TO ringfence_app;
GRANT UPDATE (state, attempts, tries, next_attempt_at, busy_until, ended_at) ON webhook_deliveries TO ringfence_app;
GRANT SELECT, INSERT ON webhook_attempts TO ringfence_app;
GRANT SELECT (id, org_id, url, types, key_id, old_key_id, old_until, failing_since, disabled_at, disabled_why, created_by, created_at, updated_at, removed_at)
    ON webhook_endpoints TO ringfence_system;
GRANT SELECT, INSERT, DELETE ON webhook_events TO ringfence_system;
GRANT SELECT, INSERT ON webhook_deliveries TO ringfence_system;
GRANT UPDATE (busy_until) ON webhook_deliveries TO ringfence_system;

ALTER TABLE webhook_endpoints ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_endpoints FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON webhook_endpoints TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON webhook_endpoints FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON webhook_endpoints FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE webhook_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_events FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON webhook_events TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system ON webhook_events TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON webhook_events FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE webhook_deliveries ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_deliveries FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON webhook_deliveries TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system ON webhook_deliveries TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON webhook_deliveries FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE webhook_attempts ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_attempts FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON webhook_attempts TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY owner_reads ON webhook_attempts FOR SELECT TO ringfence_owner USING (true);
