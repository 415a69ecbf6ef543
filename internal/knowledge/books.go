package knowledge

import "ringfence/internal/wallet"

// Tables are the tables whose every row the invariants must be able to see.
var Tables = []string{"knowledge_documents", "knowledge_chunks", "knowledge_searches"}

// Invariants are what must hold among documents, passages, searches and what was paid for them.
var Invariants = []wallet.Invariant{
	{
		Name: "searches-are-answered", Promise: "every search that was paid for in the last 29 days has its answer, in its own organisation, at its own price",
		Count: `SELECT count(*) FROM holds WHERE source = 'knowledge' AND state = 'captured'`,
		Violations: `SELECT format('hold %s', h.id) FROM holds h LEFT JOIN knowledge_searches s ON s.hold_id = h.id
		             WHERE h.source = 'knowledge' AND h.state = 'captured' AND h.updated_at > $1::timestamptz - interval '29 days'
		               AND (s.org_id, s.amount_pence) IS DISTINCT FROM (h.org_id, h.amount_pence)`,
	},
	{
		Name: "answers-were-paid", Promise: "every answer that is kept was paid for by its own organisation",
		Count: `SELECT count(*) FROM knowledge_searches`,
		Violations: `SELECT format('search %s of organisation %s', s.key, s.org_id) FROM knowledge_searches s LEFT JOIN holds h ON h.id = s.hold_id
		             WHERE (h.state, h.source, h.action, h.org_id) IS DISTINCT FROM ('captured', 'knowledge', 'knowledge', s.org_id)`,
	},
	{
		Name: "documents-are-whole", Promise: "every document has all of its passages, in order and without gaps",
		Count: `SELECT count(*) FROM knowledge_documents`,
		Violations: `SELECT format('document %s states %s passages and has %s, the last at %s', d.id, d.chunks, count(c.*), max(c.position))
		             FROM knowledge_documents d LEFT JOIN knowledge_chunks c ON c.document_id = d.id AND c.org_id = d.org_id
		             GROUP BY d.id, d.chunks HAVING count(c.*) <> d.chunks OR max(c.position) IS DISTINCT FROM d.chunks`,
	},
}
