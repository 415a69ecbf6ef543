-- Operators look through Stripe's events: newest first, by state and type, and by the ids that people write about. Each
-- index answers one of these questions for a table of any size; see internal/payments/inspect.go.

-- +goose Up
-- One state at a time, newest first; a list of all states merges five of these. It also counts a state.
DROP INDEX stripe_events_by_state;
CREATE INDEX stripe_events_by_state ON stripe_events (state, received_at, id);
-- The same within one type; its first column tells which types there are.
CREATE INDEX stripe_events_by_type ON stripe_events (type, state, received_at, id);
CREATE INDEX stripe_events_by_payment_intent ON stripe_events (payment_intent) WHERE payment_intent IS NOT NULL;
CREATE INDEX stripe_events_by_top_up ON stripe_events (top_up_id) WHERE top_up_id IS NOT NULL;

-- What was done to one thing. Credits, by far the most rows, are found by their transaction, so they cost nothing here.
CREATE INDEX audit_log_by_subject ON audit_log (subject, id) WHERE action <> 'wallet.credited';
