-- People are told of a number that was not bought.

-- +goose Up
ALTER TABLE notices DROP CONSTRAINT notices_kind;
ALTER TABLE notices ADD CONSTRAINT notices_kind CHECK (kind IN ('low_balance', 'topup_succeeded', 'topup_failed',
    'card_attention', 'autotopup_ended', 'dispute_opened', 'dispute_closed', 'account_closed', 'webhook_disabled',
    'number_rent_due', 'number_rent_unpaid', 'number_released', 'number_failed'));

-- The rents of one organisation that are due next are added up, for each of its numbers.
CREATE INDEX numbers_rents ON numbers (org_id, paid_until) WHERE state = 'active' AND paid_until IS NOT NULL;
