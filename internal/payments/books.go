package payments

import "ringfence/internal/wallet"

// Tables are those of this package that verify must see whole, beside the wallet's.
var Tables = []string{"saved_cards", "auto_top_ups"}

// Invariants are the promises of automatic top-ups, for verify.
var Invariants = []wallet.Invariant{
	{
		Name: "automatic-top-ups-are-paid-once", Promise: "an automatic top-up has at most one credit, of exactly its amount",
		Count: `SELECT count(*) FROM top_ups WHERE automatic`,
		Violations: `
			SELECT format('top-up %s of %s pence: %s credits of %s', u.id, u.amount_pence, count(*), sum(c.amount_pence))
			FROM top_ups u JOIN credits c ON c.top_up_id = u.id WHERE u.automatic
			GROUP BY u.id, u.amount_pence HAVING count(*) > 1 OR sum(c.amount_pence) <> u.amount_pence`,
	},
	{
		Name: "automatic-top-ups-were-allowed", Promise: "an automatic top-up charges a card that its organisation had saved, and not removed before",
		Count: `SELECT count(*) FROM top_ups WHERE automatic`,
		Violations: `
			SELECT format('top-up %s, card %s', u.id, u.payment_method)
			FROM top_ups u LEFT JOIN saved_cards c ON c.payment_method = u.payment_method AND c.org_id = u.org_id
			WHERE u.automatic AND (c.org_id IS NULL OR c.consented_at > u.created_at OR c.removed_at < u.created_at)`,
	},
	{
		Name: "stopped-cards-charge-nothing", Promise: "automatic top-ups are on only where there is a saved card",
		Count: `SELECT count(*) FROM auto_top_ups`,
		Violations: `
			SELECT format('organisation %s is %s', a.org_id, a.state)
			FROM auto_top_ups a LEFT JOIN saved_cards c ON c.org_id = a.org_id AND c.removed_at IS NULL
			WHERE a.state IN ('ready', 'cooling_down', 'needs_authentication') AND c.org_id IS NULL`,
	},
}
