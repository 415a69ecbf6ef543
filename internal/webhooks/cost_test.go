package webhooks_test

import (
	"testing"

	"ringfence/db/dbtest"
)

func TestCost(t *testing.T) {
	h := newHouse(t, nil)
	p := h.plant(h.org)
	dbtest.Super(t, h.url, `INSERT INTO payments (payment_intent, org_id, top_up_id, amount_pence, paid_at, created_at, updated_at) SELECT 'pi_x' || g, $1, $2, 5000, now(), now(), now() FROM generate_series(1, 3000) g`, h.org, p.paid)
	for range 3 {
		var plan []string
		dbtest.Select(t, h.url, &plan, `EXPLAIN (ANALYZE) INSERT INTO credits SELECT 'pi_x' || g, $1, $2, 5000, gen_random_uuid(), now() FROM generate_series(1, 3000) g`, h.org, p.paid)
		for _, l := range plan {
			t.Log(l)
		}
		break
	}
}
