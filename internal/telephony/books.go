package telephony

import (
	"slices"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"ringfence/internal/wallet"
)

// taken reports whether a name of Twilio's belongs to another text already.
func taken(err error) bool {
	e := pq.As(err, pqerror.UniqueViolation)
	return e != nil && e.Constraint == "messages_sid_unique"
}

// Tables are the tables whose every row the invariants must be able to see.
var Tables = []string{"messages", "opt_outs", "telephony_accounts", "credentials", "numbers", "agents", "caller_ids", "calls", "inbound_messages", "retentions"}

// Invariants are what must hold among texts, numbers, calls and what was paid for them.
var Invariants = slices.Concat(textInvariants, numberInvariants, callInvariants)

var textInvariants = []wallet.Invariant{
	{
		Name: "texts-are-paid", Promise: "a text costs what its hold took, less what was given back, and its hold has ended when the text has",
		Count: `SELECT count(*) FROM messages`,
		Violations: `SELECT format('text %s is %s and costs %s; its hold is %s over %s', m.id, m.state, m.amount_pence, h.state, h.amount_pence)
		             FROM messages m LEFT JOIN holds h ON h.id = m.hold_id
		                  LEFT JOIN ledger_transactions g ON g.org_id = m.org_id AND g.kind = 'adjustment' AND g.reference = 'message:' || m.id
		             WHERE (h.org_id, h.source, h.action, h.quantity) IS DISTINCT FROM (m.org_id, 'message', 'sms', m.segments)
		                OR m.amount_pence <> CASE WHEN h.state = 'captured' AND g.id IS NULL THEN h.amount_pence ELSE 0 END
		                OR m.state IN ('delivered', 'undelivered', 'failed') AND h.state IN ('open', 'in_flight')
		                OR m.state = 'delivered' AND m.amount_pence = 0 OR m.state = 'failed' AND m.amount_pence > 0
		                OR m.state IN ('queued', 'sending') AND h.state NOT IN ('open', 'in_flight', 'expired')`,
	},
	{
		Name: "texts-show-their-own-number", Promise: "a text that goes out from an organisation's own number shows that number, and no other organisation's",
		Count: `SELECT count(*) FROM messages WHERE number_id IS NOT NULL`,
		Violations: `SELECT format('text %s of %s shows %s; number %s of %s', m.id, m.org_id, m.sender, n.phone_number, n.org_id)
		             FROM messages m LEFT JOIN numbers n ON n.id = m.number_id
		             WHERE m.number_id IS NOT NULL AND (n.org_id, n.phone_number) IS DISTINCT FROM (m.org_id, m.sender)`,
	},
	{
		Name: "texts-have-holds", Promise: "every hold made for a text has its text",
		Count: `SELECT count(*) FROM holds WHERE source = 'message'`,
		Violations: `SELECT format('hold %s', h.id) FROM holds h LEFT JOIN messages m ON m.hold_id = h.id
		             WHERE h.source = 'message' AND m.id IS NULL`,
	},
}
