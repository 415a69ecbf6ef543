-- +goose Up
-- What is under way, and which numbers somebody has, is found without looking through what has ended.
CREATE INDEX calls_under_way ON calls (org_id) WHERE ended_at IS NULL;
CREATE INDEX messages_under_way ON messages (org_id) WHERE ended_at IS NULL;
CREATE INDEX numbers_had ON numbers (org_id, id) WHERE ended_at IS NULL;
