package watch

// gauge is a number that operators watch, and the question that finds it.
type gauge struct {
	name, help string
	labels     []string
	// query gives a column for each label and then the value. It may use the moment as $1::timestamptz. Every scrape asks
	// it, so it finds its rows by an index, and what may grow without bound is counted up to countMost.
	query string
}

// countMost is where counting ends, as text within a query: whoever has so much of it need not know how much more.
const countMost = "10000"

// gauges are what is read from the database. A name that ends in _oldest_seconds is the age of the oldest of its kind, 0
// when there is none.
var gauges = []gauge{
	{
		name: "ringfence_stripe_events", labels: []string{"state"},
		help: "Stripe's events that are not done with, by state: received (they wait), quarantined and failed (they stand before an operator).",
		query: `SELECT s.state, (SELECT count(*) FROM (SELECT FROM stripe_events e WHERE e.state = s.state LIMIT ` + countMost + `) counted)::float8
		        FROM (VALUES ('received'), ('quarantined'), ('failed')) s (state)`,
	},
	{
		name: "ringfence_stripe_event_oldest_seconds",
		help: "Age of the oldest event of Stripe's that was stored and not worked.",
		query: `SELECT coalesce(greatest(extract(epoch FROM $1::timestamptz - min(received_at)), 0), 0)::float8
		        FROM stripe_events WHERE state = 'received'`,
	},
	{
		name: "ringfence_jobs", labels: []string{"queue", "state"},
		help: "Jobs that are not done, by queue and state. Discarded ones were given up; they are kept for a week.",
		query: `SELECT queue, state::text, count(*)::float8 FROM river_job
		        WHERE state IN ('available', 'running', 'retryable', 'scheduled', 'pending', 'discarded') GROUP BY queue, state`,
	},
	{
		name: "ringfence_job_oldest_seconds", labels: []string{"queue"},
		help: "How long the oldest job of a queue has been due and not begun.",
		query: `SELECT queue, greatest(extract(epoch FROM now() - min(scheduled_at)), 0)::float8 FROM river_job
		        WHERE state IN ('available', 'retryable', 'scheduled') AND scheduled_at <= now() GROUP BY queue`,
	},
	{
		name: "ringfence_numbers_under_way", labels: []string{"state"},
		help: "Phone numbers between order and release, by state: provisioning, unknown (a provider has not said what it did), releasing.",
		query: `SELECT s.state, (SELECT count(*) FROM numbers n WHERE n.next_at IS NOT NULL AND n.state = s.state)::float8
		        FROM (VALUES ('provisioning'), ('unknown'), ('releasing')) s (state)`,
	},
	{
		name: "ringfence_number_oldest_seconds", labels: []string{"state"},
		help: "How long the oldest number of a state has been in it.",
		query: `SELECT s.state, coalesce((SELECT greatest(extract(epoch FROM $1::timestamptz - min(coalesce(n.releasing_at, n.created_at))), 0)
		                                  FROM numbers n WHERE n.next_at IS NOT NULL AND n.state = s.state), 0)::float8
		        FROM (VALUES ('provisioning'), ('unknown'), ('releasing')) s (state)`,
	},
	{
		name: "ringfence_number_refusals",
		help: "Numbers that a provider has not let go of although it was asked three times or more.",
		// As the comparison of the numbers counts them: see heldAfter in internal/telephony.
		query: `SELECT count(*)::float8 FROM numbers
		        WHERE next_at IS NOT NULL AND tries >= 3 AND (state = 'releasing' OR step IN ('undo_import', 'undo_purchase'))`,
	},
	{
		name:  "ringfence_messages_unfinished",
		help:  "Texts that have not come to their end.",
		query: `SELECT count(*)::float8 FROM (SELECT FROM messages WHERE ended_at IS NULL LIMIT ` + countMost + `) counted`,
	},
	{
		name:  "ringfence_calls_live",
		help:  "Calls under way.",
		query: `SELECT count(*)::float8 FROM (SELECT FROM calls WHERE ended_at IS NULL LIMIT ` + countMost + `) counted`,
	},
	{
		name: "ringfence_verification_findings", labels: []string{"verification", "finding"},
		help: "What the last verification found, by kind: of the books the violations of each invariant, of the numbers what differs from the providers'.",
		query: `SELECT i.kind, f.key, f.value::float8
		        FROM (VALUES ('books'), ('numbers')) k (kind)
		        CROSS JOIN LATERAL (SELECT kind, findings FROM verifications WHERE kind = k.kind AND failure = '' ORDER BY id DESC LIMIT 1) i
		        CROSS JOIN LATERAL jsonb_each_text(i.findings) f`,
	},
	{
		name: "ringfence_verification_timestamp_seconds", labels: []string{"verification"},
		help: "When the last verification that came to its end had begun, in seconds since 1970.",
		query: `SELECT i.kind, extract(epoch FROM i.at - i.took_ms * interval '1 millisecond')::float8
		        FROM (VALUES ('books'), ('numbers')) k (kind)
		        CROSS JOIN LATERAL (SELECT kind, at, took_ms FROM verifications WHERE kind = k.kind AND failure = '' ORDER BY id DESC LIMIT 1) i`,
	},
	{
		name: "ringfence_provider_balance", labels: []string{"provider", "currency"},
		help: "What we have with a provider, in the currency's unit, when it last said so.",
		query: `SELECT provider, b.currency, (b.amount_micros / 1e6)::float8
		        FROM (VALUES ('stripe'), ('twilio')) p (provider) JOIN provider_balances b USING (provider) WHERE b.amount_micros IS NOT NULL`,
	},
	{
		name: "ringfence_provider_balance_age_seconds", labels: []string{"provider"},
		help: "How long ago a provider last said what we have there. One that never did has none.",
		query: `SELECT provider, greatest(extract(epoch FROM $1::timestamptz - b.read_at), 0)::float8
		        FROM (VALUES ('stripe'), ('twilio')) p (provider) JOIN provider_balances b USING (provider) WHERE b.read_at IS NOT NULL`,
	},
	{
		name: "ringfence_component_works", labels: []string{"component"},
		help: "Whether the last probe found that a part of the service works, be it slowly: 1 or 0. One that is not offered here has none.",
		query: `SELECT component, (p.state <> 'bad')::int::float8
		        FROM (VALUES ('sign_in'), ('payments'), ('calls'), ('texts'), ('jobs')) c (component) JOIN probes p USING (component) WHERE p.state <> 'off'`,
	},
	{
		name: "ringfence_component_probe_age_seconds", labels: []string{"component"},
		help: "How long ago a part of the service was last looked at.",
		query: `SELECT component, greatest(extract(epoch FROM $1::timestamptz - p.at), 0)::float8
		        FROM (VALUES ('sign_in'), ('payments'), ('calls'), ('texts'), ('jobs')) c (component) JOIN probes p USING (component) WHERE p.state <> 'off'`,
	},
}
