-- What operators do to an organisation and how they see it.

-- +goose Up
ALTER TABLE organizations ADD COLUMN suspended_at timestamptz;
ALTER TABLE wallets
    -- As in organizations, where sign-in and keys are looked up: the gates judge by the wallet's row alone.
    ADD COLUMN suspended_at timestamptz,
    ADD COLUMN suspended_reason text NOT NULL DEFAULT '',
    ADD CONSTRAINT wallets_suspended CHECK ((suspended_at IS NULL) = (suspended_reason = ''));
GRANT UPDATE (suspended_at) ON organizations TO ringfence_app;
GRANT UPDATE (suspended_at, suspended_reason) ON wallets TO ringfence_app;

ALTER TABLE sessions
    -- The organisation that an operator looks at as its people see it, until when, and why. Only an operator's session has
    -- it, and it lets nothing be changed.
    ADD COLUMN viewing_org_id uuid REFERENCES organizations,
    ADD COLUMN viewing_until timestamptz,
    ADD COLUMN viewing_reason text NOT NULL DEFAULT '',
    ADD CONSTRAINT sessions_viewing_whole CHECK ((viewing_org_id IS NULL) = (viewing_until IS NULL) AND (viewing_org_id IS NULL) = (viewing_reason = ''));
CREATE INDEX sessions_viewing ON sessions (viewing_until) WHERE viewing_org_id IS NOT NULL;
GRANT UPDATE (viewing_org_id, viewing_until, viewing_reason) ON sessions TO ringfence_system;

ALTER TABLE calls DROP CONSTRAINT calls_hangup_why;
ALTER TABLE calls ADD CONSTRAINT calls_hangup_why CHECK (hangup_why IN ('', 'unfunded', 'ceiling', 'asked', 'suspended'));

-- How the parts of the service stand, by probes of our own. Whoever claims a round looks; the others wait for the next.
CREATE TABLE probe_rounds (
    kind     text PRIMARY KEY CONSTRAINT probe_rounds_kind CHECK (kind IN ('probes', 'verify')),
    began_at timestamptz NOT NULL
);
CREATE TABLE probes (
    component text PRIMARY KEY CONSTRAINT probes_component CHECK (component IN ('sign_in', 'payments', 'calls', 'texts', 'jobs')),
    -- off: this installation does not offer it.
    state     text NOT NULL CONSTRAINT probes_state CHECK (state IN ('good', 'slow', 'bad', 'off')),
    -- For operators, never for the public.
    note      text NOT NULL,
    took_ms   bigint NOT NULL,
    at        timestamptz NOT NULL
);
-- How many probes of a day found what, for the history that is shown in public.
CREATE TABLE probe_days (
    component text NOT NULL CONSTRAINT probe_days_component CHECK (component IN ('sign_in', 'payments', 'calls', 'texts', 'jobs')),
    day       date NOT NULL,
    good      int NOT NULL DEFAULT 0,
    slow      int NOT NULL DEFAULT 0,
    bad       int NOT NULL DEFAULT 0,
    PRIMARY KEY (component, day)
);
-- What providers said of our own balance with them.
CREATE TABLE provider_balances (
    provider      text PRIMARY KEY CONSTRAINT provider_balances_provider CHECK (provider IN ('stripe', 'twilio')),
    -- In millionths of the currency's unit; null until it could be read.
    amount_micros bigint,
    currency      text NOT NULL DEFAULT '' CONSTRAINT provider_balances_currency CHECK (currency ~ '^([a-z]{3})?$'),
    read_at       timestamptz,
    tried_at      timestamptz NOT NULL,
    -- Why the last try gave nothing; empty when it gave something.
    note          text NOT NULL,
    CONSTRAINT provider_balances_whole CHECK ((amount_micros IS NULL) = (read_at IS NULL))
);

-- Each time that all promises were checked.
CREATE TABLE verifications (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL,
    actor   text NOT NULL,
    took_ms bigint NOT NULL,
    checks  int NOT NULL,
    -- The names of those that do not hold.
    broken  text[] NOT NULL,
    -- Why it could not be finished; empty when it was.
    failure text NOT NULL
);

-- What operators say in public about the service.
CREATE TABLE incidents (
    id          uuid PRIMARY KEY,
    title       text NOT NULL CONSTRAINT incidents_title_length CHECK (length(title) BETWEEN 1 AND 120),
    impact      text NOT NULL CONSTRAINT incidents_impact CHECK (impact IN ('notice', 'degraded', 'outage')),
    components  text[] NOT NULL CONSTRAINT incidents_components CHECK (cardinality(components) > 0 AND components <@ ARRAY['sign_in', 'payments', 'calls', 'texts', 'jobs']),
    started_at  timestamptz NOT NULL,
    resolved_at timestamptz,
    created_at  timestamptz NOT NULL,
    CONSTRAINT incidents_in_order CHECK (resolved_at >= started_at)
);
CREATE INDEX incidents_by_start ON incidents (started_at);
CREATE INDEX incidents_open ON incidents (started_at) WHERE resolved_at IS NULL;
CREATE TABLE incident_updates (
    id          uuid PRIMARY KEY,
    incident_id uuid NOT NULL REFERENCES incidents,
    stage       text NOT NULL CONSTRAINT incident_updates_stage CHECK (stage IN ('investigating', 'identified', 'monitoring', 'resolved')),
    body        text NOT NULL CONSTRAINT incident_updates_body_length CHECK (length(body) BETWEEN 1 AND 2000),
    at          timestamptz NOT NULL
);
CREATE INDEX incident_updates_by_incident ON incident_updates (incident_id, at);

COMMENT ON TABLE probe_rounds IS 'no row-level security: when the house last looked at itself, holds nothing of a tenant';
COMMENT ON TABLE probes IS 'no row-level security: how the parts of the house stand, holds nothing of a tenant';
COMMENT ON TABLE probe_days IS 'no row-level security: how the parts of the house stood, holds nothing of a tenant';
COMMENT ON TABLE provider_balances IS 'no row-level security: what the house has with its providers, holds nothing of a tenant';
COMMENT ON TABLE verifications IS 'no row-level security: when the house checked its own books, holds nothing of a tenant';
COMMENT ON TABLE incidents IS 'no row-level security: what the house says in public, holds nothing of a tenant';
COMMENT ON TABLE incident_updates IS 'no row-level security: what the house says in public, holds nothing of a tenant';

GRANT SELECT, INSERT ON probe_rounds, probes, probe_days, provider_balances, verifications, incidents, incident_updates TO ringfence_system;
GRANT UPDATE (began_at) ON probe_rounds TO ringfence_system;
GRANT UPDATE (state, note, took_ms, at) ON probes TO ringfence_system;
GRANT UPDATE (good, slow, bad) ON probe_days TO ringfence_system;
GRANT DELETE ON probe_days, verifications TO ringfence_system;
GRANT UPDATE (amount_micros, currency, read_at, tried_at, note) ON provider_balances TO ringfence_system;
GRANT UPDATE (title, impact, components, resolved_at) ON incidents TO ringfence_system;

-- The log is searched by days; it grows by time, so this costs next to nothing where money moves.
CREATE INDEX audit_log_at ON audit_log USING brin (at) WITH (pages_per_range = 32);

-- What texts cost us: Twilio says it some time after the end, so it is asked then, a few times.
ALTER TABLE messages
    -- In millionths of a dollar; null while it is not known, and for good where Twilio never said.
    ADD COLUMN cost_micros bigint CONSTRAINT messages_cost CHECK (cost_micros >= 0),
    ADD COLUMN cost_looks int NOT NULL DEFAULT 0,
    ADD COLUMN cost_look_at timestamptz;
CREATE INDEX messages_cost_due ON messages (cost_look_at) WHERE cost_look_at IS NOT NULL;
GRANT UPDATE (cost_micros, cost_looks, cost_look_at) ON messages TO ringfence_app;

-- What a number costs us a month, by its country, as operators have it from the provider's list: from a month on.
CREATE TABLE number_costs (
    country       text NOT NULL CONSTRAINT number_costs_country CHECK (country ~ '^[A-Z]{2}$'),
    -- The first of a month.
    starts_on     date NOT NULL CONSTRAINT number_costs_month CHECK (extract(day FROM starts_on) = 1),
    -- In millionths of a dollar.
    monthly_micros bigint NOT NULL CONSTRAINT number_costs_amount CHECK (monthly_micros BETWEEN 0 AND 1000000000),
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (country, starts_on)
);
COMMENT ON TABLE number_costs IS 'no row-level security: what numbers cost the house, holds nothing of a tenant';
GRANT SELECT, INSERT ON number_costs TO ringfence_system;
GRANT UPDATE (monthly_micros, updated_at) ON number_costs TO ringfence_system;
