package telephony

import "ringfence/internal/wallet"

// callInvariants are what must hold among calls, what was paid for them, and who made them.
var callInvariants = []wallet.Invariant{
	{
		Name: "calls-are-paid", Promise: "a call costs what its hold took, and its hold is where the call is: ended with it, in flight while it goes on",
		Count: `SELECT count(*) FROM calls`,
		Violations: `SELECT format('call %s is %s and costs %s; its hold is %s over %s', c.id, c.state, c.amount_pence, h.state, h.amount_pence)
		             FROM calls c LEFT JOIN holds h ON h.id = c.hold_id
		             WHERE c.state = 'refused' AND c.hold_id IS NOT NULL OR c.state <> 'refused' AND (
		                (h.org_id, h.source, h.action) IS DISTINCT FROM (c.org_id, 'call', 'call')
		                OR c.amount_pence <> CASE WHEN h.state = 'captured' THEN h.amount_pence ELSE 0 END
		                OR NOT CASE WHEN c.state = 'completed' THEN h.state = 'captured'
		                            WHEN c.state IN ('unanswered', 'failed') THEN h.state IN ('void', 'expired')
		                            WHEN c.state = 'queued' THEN h.state IN ('open', 'expired')
		                            ELSE h.state = 'in_flight' END)`,
	},
	{
		Name: "calls-have-holds", Promise: "every hold made for a call has its call",
		Count: `SELECT count(*) FROM holds WHERE source = 'call'`,
		Violations: `SELECT format('hold %s', h.id) FROM holds h LEFT JOIN calls c ON c.hold_id = h.id
		             WHERE h.source = 'call' AND c.id IS NULL`,
	},
	{
		Name: "calls-cost-what-they-lasted", Promise: "a call is charged its seconds at the price and rate of its hold, rounded up once, and never for longer than its ceiling",
		Count: `SELECT count(*) FROM calls WHERE state = 'completed'`,
		Violations: `SELECT format('call %s of %s s (at most %s) costs %s', c.id, c.seconds, c.ceiling_seconds, c.amount_pence)
		             FROM calls c JOIN holds h ON h.id = c.hold_id JOIN prices p ON p.id = h.price_id JOIN exchange_rates r ON r.id = h.rate_id
		             WHERE c.state = 'completed' AND (c.seconds NOT BETWEEN 1 AND c.ceiling_seconds
		                OR c.amount_pence <> ceil(c.seconds::numeric * p.cents_per_minute * r.usd_to_gbp_micros / 60000000))`,
	},
	{
		Name: "calls-are-funded", Promise: "what a call under way is said to be paid for is set aside, and is no longer than its ceiling",
		Count: `SELECT count(*) FROM calls WHERE ended_at IS NULL`,
		Violations: `SELECT format('call %s is paid for %s of at most %s s; %s is set aside', c.id, c.covered_seconds, c.ceiling_seconds, h.amount_pence)
		             FROM calls c JOIN holds h ON h.id = c.hold_id JOIN prices p ON p.id = h.price_id JOIN exchange_rates r ON r.id = h.rate_id
		             WHERE c.ended_at IS NULL AND h.state IN ('open', 'in_flight') AND (c.covered_seconds > greatest(c.ceiling_seconds, 60)
		                OR h.amount_pence < ceil(c.covered_seconds::numeric * p.cents_per_minute * r.usd_to_gbp_micros / 60000000))`,
	},
	{
		Name: "calls-show-their-own-number", Promise: "a call is on a number of its own organisation, by an agent of its own organisation, and shows that number",
		Count: `SELECT count(*) FROM calls`,
		Violations: `SELECT format('call %s of %s shows %s; number %s of %s, agent of %s', c.id, c.org_id, c.our_number, n.phone_number, n.org_id, a.org_id)
		             FROM calls c LEFT JOIN numbers n ON n.id = c.number_id LEFT JOIN agents a ON a.id = c.agent_id
		             WHERE (n.org_id, n.phone_number) IS DISTINCT FROM (c.org_id, c.our_number) OR c.agent_id IS NOT NULL AND a.org_id IS DISTINCT FROM c.org_id
		             UNION ALL
		             SELECT format('agent %s of %s shows caller id %s of %s, which is %s', a.id, a.org_id, i.id, i.org_id, i.state)
		             FROM agents a JOIN caller_ids i ON i.id = a.caller_id WHERE a.deleted_at IS NULL AND (i.org_id <> a.org_id OR i.state <> 'verified')`,
	},
	{
		Name: "calls-end", Promise: "no call has gone on for a day longer than it may",
		Count: `SELECT count(*) FROM calls WHERE ended_at IS NULL`,
		Violations: `SELECT format('call %s is %s since %s', id, state, created_at) FROM calls
		             WHERE ended_at IS NULL AND created_at < $1::timestamptz - interval '1 day' - ceiling_seconds * interval '1 second'`,
	},
	{
		Name: "calls-are-audited", Promise: "how every call ended, and every agent, has its audit row",
		Count: `SELECT (SELECT count(*) FROM calls WHERE ended_at IS NOT NULL) + (SELECT count(*) FROM agents WHERE revision > 1 OR synced_revision > 0)`,
		Violations: `SELECT format('call %s is %s', c.id, c.state) FROM calls c
		             WHERE c.ended_at IS NOT NULL AND NOT EXISTS (
		                 SELECT FROM audit_log l WHERE l.subject = 'call:' || c.id AND l.action = 'call.' || c.state AND l.org_id = c.org_id)
		             UNION ALL
		             SELECT format('agent %s is at revision %s', a.id, a.revision) FROM agents a
		             WHERE a.revision > 1 AND NOT EXISTS (
		                 SELECT FROM audit_log l WHERE l.subject = 'agent:' || a.id AND l.action IN ('agent.changed', 'agent.deleted') AND l.org_id = a.org_id)`,
	},
	{
		Name: "recordings-are-at-hosts-we-know", Promise: "a recording's address is https, and what was erased has no words and no recording",
		Count: `SELECT count(*) FROM calls WHERE recording_url <> '' OR erased_at IS NOT NULL`,
		Violations: `SELECT format('call %s', id) FROM calls
		             WHERE recording_url <> '' AND recording_url NOT LIKE 'https://%' OR erased_at IS NOT NULL AND (recording_url <> '' OR transcript <> '')`,
	},
}
