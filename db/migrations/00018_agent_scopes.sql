-- +goose Up
-- Keys may be given to programs that see and keep agents. What a key had stays as it was.
ALTER TABLE api_keys DROP CONSTRAINT api_keys_scopes;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_scopes CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY[
    'wallet:read', 'holds:write', 'messages:write', 'calls:write', 'numbers:read', 'numbers:write', 'knowledge:read', 'agents:read', 'agents:write']);
