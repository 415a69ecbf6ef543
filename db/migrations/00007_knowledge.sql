-- The knowledge base: documents as text, cut into passages that overlap, and the answers that searches were paid for.

-- +goose Up
CREATE TABLE knowledge_documents (
    id          uuid PRIMARY KEY,
    org_id      uuid NOT NULL REFERENCES organizations,
    name        text NOT NULL CONSTRAINT knowledge_documents_name_length CHECK (length(name) BETWEEN 1 AND 200),
    kind        text NOT NULL CONSTRAINT knowledge_documents_kind CHECK (kind IN ('text', 'markdown', 'pdf')),
    -- Size and SHA-256 of the file as it was sent. The file itself is not kept.
    bytes       int NOT NULL CONSTRAINT knowledge_documents_bytes CHECK (bytes BETWEEN 1 AND 307200),
    sha256      bytea NOT NULL CONSTRAINT knowledge_documents_sha256_length CHECK (octet_length(sha256) = 32),
    -- Pages of a PDF; nothing else has any.
    pages       int NOT NULL CONSTRAINT knowledge_documents_pages CHECK ((pages > 0) = (kind = 'pdf') AND pages >= 0),
    chunks      int NOT NULL CONSTRAINT knowledge_documents_chunks CHECK (chunks > 0),
    uploaded_by uuid NOT NULL REFERENCES users,
    created_at  timestamptz NOT NULL,
    CONSTRAINT knowledge_documents_org_unique UNIQUE (org_id, id),
    CONSTRAINT knowledge_documents_content_unique UNIQUE (org_id, sha256),
    CONSTRAINT knowledge_documents_name_unique UNIQUE (org_id, name)
);
CREATE INDEX knowledge_documents_by_org ON knowledge_documents (org_id, created_at);

CREATE TABLE knowledge_chunks (
    org_id      uuid NOT NULL,
    document_id uuid NOT NULL,
    -- 1, 2, 3 … through the document.
    position    int NOT NULL CONSTRAINT knowledge_chunks_position CHECK (position > 0),
    -- The page of a PDF on which it begins; 0 where there are none.
    page        int NOT NULL CONSTRAINT knowledge_chunks_page CHECK (page >= 0),
    text        text NOT NULL,
    search      tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector('english', text)) STORED,
    PRIMARY KEY (org_id, document_id, position),
    -- With the organisation in it, no passage can belong to another organisation's document.
    CONSTRAINT knowledge_chunks_document FOREIGN KEY (org_id, document_id) REFERENCES knowledge_documents (org_id, id)
);
-- fastupdate: uploads are rare, and a list of what is still to be sorted in would slow every search down.
CREATE INDEX knowledge_chunks_search ON knowledge_chunks USING gin (search) WITH (fastupdate = off);

CREATE TABLE knowledge_searches (
    org_id       uuid NOT NULL REFERENCES organizations,
    -- The idempotency key, and SHA-256 of what was asked with it: same key, same question, same answer.
    key          text NOT NULL CONSTRAINT knowledge_searches_key_length CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint  bytea NOT NULL CONSTRAINT knowledge_searches_fingerprint_length CHECK (octet_length(fingerprint) = 32),
    -- What it was paid with: captured in the transaction that wrote this row.
    hold_id      uuid NOT NULL CONSTRAINT knowledge_searches_hold_unique UNIQUE REFERENCES holds,
    amount_pence bigint NOT NULL CONSTRAINT knowledge_searches_amount CHECK (amount_pence > 0),
    result       jsonb NOT NULL,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (org_id, key)
);
CREATE INDEX knowledge_searches_by_age ON knowledge_searches (created_at);

-- Under row-level security a tenant's query can never use the index on the text: to Postgres, what @@ is asked of a row
-- might give the row away, so it is only asked of rows that have passed the policy, one after the other
-- (https://www.postgresql.org/docs/current/ddl-rowsecurity.html). This function asks as the owner of the table, who has
-- no such policy; therefore it holds the tenants' policy itself, and gives no text but only where to find it. Whoever
-- reads the text there does so under the policy again.
--
-- The pools' plans are made for rows that are found one by one; this one is made for the words that are sought.
-- +goose StatementBegin
CREATE FUNCTION knowledge_matches(org uuid, query tsquery, most int) RETURNS TABLE (document_id uuid, place int, score real)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_custom_plan
    SET enable_bitmapscan = on
    SET jit = off
AS $$
BEGIN
    IF org::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')) THEN
        RETURN QUERY
            -- 1 divides by the logarithm of the length, 32 brings it below one.
            SELECT c.document_id, c.position, ts_rank_cd(c.search, query, 1 | 32) AS rank
            FROM public.knowledge_chunks c
            WHERE c.org_id = org AND c.search @@ query
            ORDER BY rank DESC, c.document_id, c.position
            LIMIT most;
    END IF;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION knowledge_matches(uuid, tsquery, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION knowledge_matches(uuid, tsquery, int) TO ringfence_app;

GRANT SELECT, INSERT, DELETE ON knowledge_documents, knowledge_chunks TO ringfence_app;
GRANT SELECT, INSERT ON knowledge_searches TO ringfence_app;
GRANT SELECT ON knowledge_documents, knowledge_chunks TO ringfence_system;
-- What was answered long ago is forgotten by a sweeper.
GRANT SELECT, DELETE ON knowledge_searches TO ringfence_system;

ALTER TABLE knowledge_documents ENABLE ROW LEVEL SECURITY;
ALTER TABLE knowledge_documents FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON knowledge_documents TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON knowledge_documents FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON knowledge_documents FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE knowledge_chunks ENABLE ROW LEVEL SECURITY;
ALTER TABLE knowledge_chunks FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON knowledge_chunks TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system_reads ON knowledge_chunks FOR SELECT TO ringfence_system USING (true);
CREATE POLICY owner_reads ON knowledge_chunks FOR SELECT TO ringfence_owner USING (true);

ALTER TABLE knowledge_searches ENABLE ROW LEVEL SECURITY;
ALTER TABLE knowledge_searches FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON knowledge_searches TO ringfence_app
    USING (org_id::text = ANY (string_to_array(nullif(current_setting('app.org_ids', true), ''), ',')));
CREATE POLICY system ON knowledge_searches TO ringfence_system USING (true) WITH CHECK (true);
CREATE POLICY owner_reads ON knowledge_searches FOR SELECT TO ringfence_owner USING (true);
