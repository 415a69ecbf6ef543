package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ringfence/db"
)

// The kinds of inspections.
const (
	Books   = "books"   // every invariant of the books, as `ringfence verify` checks them
	Numbers = "numbers" // our phone numbers against the providers'
)

// keepInspections is how long their rows are kept.
const keepInspections = 30 * 24 * time.Hour

// Inspection is what one look at everything found.
type Inspection struct {
	Kind         string
	Began, Ended time.Time
	// Findings count what is not as it should be, by its short and stable name. What was looked at and is as it should be
	// stands there with 0.
	Findings map[string]int
}

// Record keeps an inspection that came to its end, so that every process can tell of it, and forgets those of more than
// thirty days ago.
func Record(ctx context.Context, d *db.DB, i Inspection) error {
	if i.Findings == nil {
		return errors.New("an inspection without findings has not looked at anything")
	}
	findings, err := json.Marshal(i.Findings)
	if err != nil {
		return fmt.Errorf("couldn't write the findings down: %w", err)
	}
	return d.InSystemTx(ctx, "what an inspection found", func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO inspections (kind, began_at, ended_at, findings) VALUES ($1, $2, $3, $4)`,
			i.Kind, i.Began, i.Ended, string(findings)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM inspections WHERE kind = $1 AND ended_at < $2`, i.Kind, tx.Now.Add(-keepInspections))
		return err
	})
}
