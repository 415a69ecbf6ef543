package notice

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
)

// RaiseAll is [Raise] for several notices in one statement. With none it does nothing.
func RaiseAll(ctx context.Context, tx *db.Tx, notices []Notice) error {
	if len(notices) == 0 {
		return nil
	}
	var id, org, kind, subject, data []string
	for _, n := range notices {
		figures := n.Data
		if figures == nil {
			figures = map[string]any{}
		}
		b, err := json.Marshal(figures)
		if err != nil {
			return fmt.Errorf("couldn't write the notice's figures: %w", err)
		}
		one, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("couldn't make a notice id: %w", err)
		}
		id, org, kind = append(id, one.String()), append(org, n.OrgID.String()), append(kind, string(n.Kind))
		subject, data = append(subject, n.Subject), append(data, string(b))
	}
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO notices (raised_at, id, org_id, kind, subject, data)
		SELECT $1, u.* FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::jsonb[]) u
		ON CONFLICT (org_id, kind, subject) DO NOTHING`,
		tx.Now, pq.Array(id), pq.Array(org), pq.Array(kind), pq.Array(subject), pq.Array(data)); err != nil {
		return fmt.Errorf("couldn't keep the notices: %w", err)
	}
	return nil
}
