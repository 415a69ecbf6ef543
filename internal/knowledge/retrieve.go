package knowledge

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/fault"
)

// Hit is a passage that was found.
type Hit struct {
	DocumentID uuid.UUID `db:"document_id" json:"document_id"`
	Document   string    `db:"document" json:"document"` // its name
	// Chunk is the passage's place in the document, from 1; Page is the page on which it begins, 0 where there are none.
	Chunk int    `db:"chunk" json:"chunk"`
	Page  int    `db:"page" json:"page,omitempty"`
	Text  string `db:"text" json:"text"`
	// Score is above 0 and below 1; it compares the hits of one search, and no more.
	Score float64 `db:"score" json:"score"`
	// Excerpt is what stands around the words that were sought, each of those between MarkStart and MarkEnd.
	Excerpt string `db:"excerpt" json:"excerpt"`
}

// MarkStart and MarkEnd stand around what was sought in an excerpt. No text holds them; see clean.
const (
	MarkStart = "\x02"
	MarkEnd   = "\x03"
)

// Retriever finds the passages of an organisation's documents that fit a query best.
type Retriever interface {
	// Check refuses a query that nothing can be found by: Invalid, field "query". It is asked before any money is.
	Check(ctx context.Context, org uuid.UUID, query string) error
	// Retrieve gives at most so many, the best first. Finding nothing is no error.
	Retrieve(ctx context.Context, org uuid.UUID, query string, most int) ([]Hit, error)
}

// FullText finds passages by their words, in English, with Postgres. A query may put words that belong together in
// quotation marks, give alternatives with "or" and rule words out with a minus
// (https://www.postgresql.org/docs/current/textsearch-controls.html).
type FullText struct{ DB *db.DB }

// Check implements [Retriever]: stop words alone find nothing, nor does ruling words out alone.
func (f FullText) Check(ctx context.Context, org uuid.UUID, query string) error {
	var words string
	err := f.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		return tx.GetContext(ctx, &words, `SELECT querytree(websearch_to_tsquery('english', $1))`, query)
	})
	if err != nil {
		return fmt.Errorf("couldn't read the query: %w", err)
	}
	if words == "" || words == "T" { // what the index can be asked for: nothing, or everything
		return fault.Field("query", "Use at least one searchable word. Words like “the” and “is” are in nearly every text.")
	}
	return nil
}

// Retrieve implements [Retriever]. Where no passage has all that is sought, it gives those that have some of it: a
// question has words in it that its answer does not repeat.
func (f FullText) Retrieve(ctx context.Context, org uuid.UUID, query string, most int) (hits []Hit, err error) {
	err = f.DB.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		var all string
		if err := tx.GetContext(ctx, &all, `SELECT websearch_to_tsquery('english', $1)::text`, query); err != nil {
			return err
		}
		if hits, err = matches(ctx, tx, org, all, most); err != nil || len(hits) > 0 {
			return err
		}
		some := strings.ReplaceAll(all, "' & '", "' | '")
		if some == all || strings.Contains(all, "!") { // without what is ruled out would be nearly everything
			return nil
		}
		hits, err = matches(ctx, tx, org, some, most)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't search the documents: %w", err)
	}
	return hits, nil
}

// matches gives the best passages for a tsquery. The function finds them by the index, past the policies of row-level
// security; what is read here is read under them.
func matches(ctx context.Context, tx *db.Tx, org uuid.UUID, query string, most int) (hits []Hit, err error) {
	err = tx.SelectContext(ctx, &hits, `
		SELECT c.document_id, d.name AS document, c.position AS chunk, c.page, c.text, round(m.score::numeric, 6)::float8 AS score,
		       ts_headline('english', c.text, $2::tsquery,
		                   'MaxFragments=2, MinWords=15, MaxWords=35, FragmentDelimiter=" … ", StartSel='||chr(2)||', StopSel='||chr(3)) AS excerpt
		FROM knowledge_matches($1, $2::tsquery, $3) m
		     JOIN knowledge_chunks c ON c.org_id = $1 AND c.document_id = m.document_id AND c.position = m.place
		     JOIN knowledge_documents d ON d.org_id = $1 AND d.id = m.document_id
		ORDER BY m.score DESC, c.document_id, c.position`, org, query, most)
	return hits, err
}
