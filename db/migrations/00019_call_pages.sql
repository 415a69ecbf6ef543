-- +goose Up
-- What pages and programs show of calls and texts, and texts that go out from an organisation's own numbers.

-- Whether Twilio says that the number sends and takes texts.
ALTER TABLE numbers ADD COLUMN texts boolean NOT NULL DEFAULT true;
GRANT UPDATE (texts) ON numbers TO ringfence_app;

-- The organisation's own number that a text goes out from, in whose account at Twilio it lives; NULL: the sender that all share.
ALTER TABLE messages ADD COLUMN number_id uuid REFERENCES numbers;

-- What the agent was to say before anything else, and whether the call was to be recorded, when it was placed or taken; and the
-- holds by which what was looked up in it was paid for.
ALTER TABLE calls
    ADD COLUMN recorded     boolean NOT NULL DEFAULT false,
    ADD COLUMN consent      text NOT NULL DEFAULT '' CONSTRAINT calls_consent_length CHECK (length(consent) <= 300),
    ADD COLUMN lookup_holds uuid[] NOT NULL DEFAULT '{}',
    ADD CONSTRAINT calls_recorded CHECK (NOT recorded OR consent <> '');
GRANT UPDATE (lookup_holds) ON calls TO ringfence_app;

-- Keys may be given to programs that see calls and texts. What a key had stays as it was.
ALTER TABLE api_keys DROP CONSTRAINT api_keys_scopes;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_scopes CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY[
    'wallet:read', 'holds:write', 'messages:write', 'calls:write', 'numbers:read', 'numbers:write', 'knowledge:read', 'agents:read', 'agents:write',
    'calls:read', 'messages:read']);
