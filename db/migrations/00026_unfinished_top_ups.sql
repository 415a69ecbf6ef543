-- +goose Up
-- The wallet page asks for the few top-ups that somebody may still be waiting for, however many there have been.
CREATE INDEX top_ups_unfinished ON top_ups (org_id, created_at) WHERE state IN ('creating', 'open', 'processing') AND NOT automatic;
