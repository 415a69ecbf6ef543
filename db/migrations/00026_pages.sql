-- +goose Up
-- The wallet page asks for the few top-ups that somebody may still be waiting for, however many there have been.
CREATE INDEX top_ups_unfinished ON top_ups (org_id, created_at) WHERE state IN ('creating', 'open', 'processing') AND NOT automatic;
-- The dashboard asks for the agents that there are, however many were deleted.
CREATE INDEX agents_had ON agents (org_id) WHERE deleted_at IS NULL;
-- It also asks whether there ever was a call that was more than refused; only those are paid for.
CREATE INDEX calls_made ON calls (org_id) WHERE hold_id IS NOT NULL;
