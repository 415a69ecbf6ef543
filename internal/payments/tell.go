package payments

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/money"
	"ringfence/internal/notice"
)

// tell keeps what an organisation's people are to be told of a round of events: that an automatic top-up has come, which
// nobody was there to see, and that a payment failed which had been under way for days. Rounds in which neither happened,
// which is nearly all, ask nothing of the database.
func tell(ctx context.Context, tx *db.Tx, events []event, verdicts []verdict, topUps map[uuid.UUID]topUpRow, paid map[string]payment, credited map[string]bool) error {
	var notices []notice.Notice
	for intent := range credited {
		p := paid[intent]
		if !topUps[p.topUp].Automatic {
			continue
		}
		notices = append(notices, notice.Notice{
			OrgID: p.org, Kind: notice.TopUpSucceeded, Subject: p.topUp.String(), Data: map[string]any{"amount_pence": int64(p.amount), "automatic": true},
		})
	}
	var lost []string
	for i, e := range events {
		if e.fact.lost && verdicts[i].state == stateProcessed {
			lost = append(lost, e.fact.topUp.String())
		}
	}
	if len(lost) > 0 {
		var failed []struct {
			ID     uuid.UUID   `db:"id"`
			OrgID  uuid.UUID   `db:"org_id"`
			Amount money.Pence `db:"amount_pence"`
		}
		if err := tx.SelectContext(ctx, &failed, `
			SELECT id, org_id, amount_pence FROM top_ups WHERE id = ANY($1) AND state::text = 'failed' ORDER BY id`, pq.Array(lost)); err != nil {
			return fmt.Errorf("couldn't read the top-ups that failed: %w", err)
		}
		for _, t := range failed {
			notices = append(notices, notice.Notice{
				OrgID: t.OrgID, Kind: notice.TopUpFailed, Subject: t.ID.String(), Data: map[string]any{"amount_pence": int64(t.Amount)},
			})
		}
	}
	return notice.RaiseAll(ctx, tx, notices)
}
