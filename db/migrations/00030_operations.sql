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
