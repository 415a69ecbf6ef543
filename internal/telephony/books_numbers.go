package telephony

import "ringfence/internal/wallet"

// numberInvariants are what must hold among numbers, what pays for them, what they are reached by and what points at them.
var numberInvariants = []wallet.Invariant{
	{
		Name: "numbers-are-paid", Promise: "a number's hold is there while it is bought, taken when it is active, and given back when it is not bought",
		Count: `SELECT count(*) FROM numbers`,
		Violations: `SELECT format('number %s is %s (step %s, failed %s); its hold is %s', n.id, n.state, n.step, n.failed_step, h.state)
		             FROM numbers n LEFT JOIN holds h ON h.id = n.hold_id
		             WHERE n.kind = 'managed' AND ((h.org_id, h.source, h.action, h.quantity, h.price_id) IS DISTINCT FROM (n.org_id, 'number', 'number', 1::bigint, n.price_id)
		                OR NOT CASE WHEN n.failed_step <> '' THEN h.state IN ('void', 'expired')
		                            WHEN n.state IN ('active', 'releasing', 'released') THEN h.state = 'captured'
		                            WHEN n.step IN ('subaccount', 'purchase') AND n.state = 'provisioning' THEN h.state IN ('open', 'in_flight', 'expired')
		                            ELSE h.state = 'in_flight' END)`,
	},
	{
		Name: "holds-have-numbers", Promise: "every hold made for a number has its number",
		Count: `SELECT count(*) FROM holds WHERE source = 'number'`,
		Violations: `SELECT format('hold %s', h.id) FROM holds h LEFT JOIN numbers n ON n.hold_id = h.id
		             WHERE h.source = 'number' AND n.id IS NULL`,
	},
	{
		Name: "active-numbers-are-whole", Promise: "an active number has one provider record at Twilio and one at Vapi, and a credential of its own organisation, kind and account",
		Count: `SELECT count(*) FROM numbers WHERE state = 'active'`,
		Violations: `SELECT format('number %s: sid %s, Vapi %s, credential %s of account %s', n.id, n.sid, n.vapi_id, c.id, c.account_sid)
		             FROM numbers n LEFT JOIN credentials c ON c.id = n.credential_id
		             WHERE n.state = 'active' AND (n.sid IS NULL OR n.vapi_id IS NULL OR (c.org_id, c.kind, c.account_sid) IS DISTINCT FROM (n.org_id, n.kind, n.account_sid))
		             UNION ALL
		             SELECT format('%s is live %s times', phone_number, count(*)) FROM numbers WHERE state IN ` + liveStates + ` GROUP BY phone_number HAVING count(*) > 1`,
	},
	{
		Name: LinksInvariant, Promise: "no agent points at a number that is not active, or another organisation's; no credential is tied to a number that has ended, and ours is kept only while a number needs it",
		Count: `SELECT (SELECT count(*) FROM agents WHERE number_id IS NOT NULL) + (SELECT count(*) FROM credentials)`,
		Violations: `SELECT format('agent %s points at number %s, which is %s', a.id, a.number_id, n.state)
		             FROM agents a LEFT JOIN numbers n ON n.id = a.number_id
		             WHERE a.number_id IS NOT NULL AND (n.state IS DISTINCT FROM 'active' OR n.org_id <> a.org_id)
		             UNION ALL
		             SELECT format('number %s is %s and has credential %s', id, state, credential_id) FROM numbers WHERE state IN ('released', 'failed') AND credential_id IS NOT NULL
		             UNION ALL
		             SELECT format('managed credential %s: no number of organisation %s needs it', c.id, c.org_id) FROM credentials c
		             WHERE c.kind = 'managed' AND NOT EXISTS (SELECT FROM numbers n WHERE n.org_id = c.org_id AND n.kind = 'managed' AND n.state IN ` + liveStates + `)`,
	},
	{
		Name: "vapi-has-the-token", Promise: "an active number for which Vapi does not have its credential's newest token waits for Vapi to be told",
		Count: `SELECT count(*) FROM numbers WHERE state = 'active'`,
		Violations: `SELECT format('number %s: Vapi has version %s of credential %s, which is at %s', n.id, n.told_version, c.id, c.version)
		             FROM numbers n JOIN credentials c ON c.id = n.credential_id WHERE n.state = 'active' AND n.told_version <> c.version AND n.tell_at IS NULL`,
	},
	{
		Name: "own-credentials-stay", Promise: "a customer's own credential is removed by a person and never by us, and is there while a number of its account is",
		Count: `SELECT count(*) FROM audit_log WHERE action = 'credential.removed'`,
		Violations: `SELECT format('%s of organisation %s was removed by %s', subject, org_id, actor) FROM audit_log
		             WHERE action = 'credential.removed' AND detail->>'kind' = 'byoc' AND actor LIKE 'system:%'
		             UNION ALL
		             SELECT format('number %s is %s and organisation %s has no credential of its own', n.id, n.state, n.org_id) FROM numbers n
		             WHERE n.kind = 'byoc' AND n.state IN ` + liveStates + ` AND NOT EXISTS (
		                 SELECT FROM credentials c WHERE c.org_id = n.org_id AND c.kind = 'byoc' AND c.account_sid = n.account_sid)`,
	},
	{
		Name: "numbers-are-audited", Promise: "every state that a number has come to has its audit row, and so has every credential",
		Count: `SELECT (SELECT count(*) FROM numbers) + (SELECT count(*) FROM credentials)`,
		Violations: `SELECT format('number %s is %s without %s', n.id, n.state, e.action)
		             FROM numbers n CROSS JOIN LATERAL (VALUES ('number.ordered', true), ('number.activated', n.activated_at IS NOT NULL),
		                  ('number.releasing', n.releasing_at IS NOT NULL), ('number.released', n.state = 'released'),
		                  ('number.turned_back', n.failed_step <> ''), ('number.failed', n.state = 'failed')) e (action, due)
		             WHERE e.due AND NOT EXISTS (SELECT FROM audit_log a WHERE a.subject = 'number:' || n.id AND a.action = e.action AND a.org_id = n.org_id)
		             UNION ALL
		             SELECT format('credential %s', c.id) FROM credentials c
		             WHERE NOT EXISTS (SELECT FROM audit_log a WHERE a.subject = 'credential:' || c.id AND a.action = 'credential.saved' AND a.org_id = c.org_id)`,
	},
	{
		Name: "rent-is-charged-once", Promise: "a number's months are charged once each, at its own rent, from one month after it became active until it was released",
		Count: `SELECT count(*) FROM ledger_transactions WHERE kind = 'rent'`,
		Violations: `SELECT format('number %s: %s months, %s charged', n.id, n.months, count(t.*)) FROM numbers n
		             LEFT JOIN ledger_transactions t ON t.kind = 'rent' AND t.org_id = n.org_id AND split_part(t.reference, ':', 2) = n.id::text
		             GROUP BY n.id, n.months, n.monthly_pence HAVING count(t.*) <> CASE WHEN n.monthly_pence > 0 THEN n.months ELSE 0 END
		             UNION ALL
		             SELECT format('transaction %s (%s) at %s', t.id, t.reference, t.created_at) FROM ledger_transactions t
		             LEFT JOIN numbers n ON n.id::text = split_part(t.reference, ':', 2) AND n.org_id = t.org_id
		             LEFT JOIN LATERAL (SELECT sum(p.amount_pence)::bigint AS amount FROM ledger_postings p JOIN ledger_accounts a ON a.id = p.account_id
		                                WHERE p.transaction_id = t.id AND a.name = 'revenue/number') r ON true
		             WHERE t.kind = 'rent' AND (n.id IS NULL OR r.amount IS DISTINCT FROM n.monthly_pence OR t.created_at < n.activated_at + interval '27 days'
		                OR t.created_at > n.releasing_at)`,
	},
	{
		Name: "closed-accounts-are-quiet", Promise: "an organisation whose account is closed has no number that is not given back, and no call under way",
		Count: `SELECT count(*) FROM organizations WHERE closed_at IS NOT NULL`,
		Violations: `SELECT format('number %s of %s is %s', n.id, n.org_id, n.state) FROM numbers n JOIN organizations o ON o.id = n.org_id AND o.closed_at IS NOT NULL
		             WHERE n.state IN ` + liveStates + `
		             UNION ALL
		             SELECT format('call %s of %s is %s', c.id, c.org_id, c.state) FROM calls c JOIN organizations o ON o.id = c.org_id AND o.closed_at IS NOT NULL
		             WHERE c.ended_at IS NULL`,
	},
	{
		Name: "numbers-go-on", Promise: "no number has been on its way for more than a day, unless a provider has not let go of it",
		Count: `SELECT count(*) FROM numbers WHERE next_at IS NOT NULL`,
		Violations: `SELECT format('number %s is %s since %s (step %s)', id, state, created_at, step) FROM numbers
		             WHERE state IN ('provisioning', 'unknown') AND failed_step = '' AND created_at < $1::timestamptz - interval '1 day'`,
	},
}
