package webhooks_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/notice"
	"ringfence/internal/wallet"
	"ringfence/internal/webhooks"
)

// planted are rows of an organisation about which something is going to happen.
type planted struct{ number, call, text, lost, received, topUp, paid uuid.UUID }

// plant gives the organisation a number, a call, two texts, one that came in, and a top-up, all under way.
func (h *house) plant(org uuid.UUID) (p planted) {
	h.t.Helper()
	p = planted{uuid.New(), uuid.New(), uuid.New(), uuid.New(), uuid.New(), uuid.New(), uuid.New()}
	dbtest.Super(h.t, h.url, `INSERT INTO exchange_rates (usd_to_gbp_micros, source, author, starts_at, created_at) VALUES (790000, 'test', 'test', '1970-01-01', now())`)
	gates := wallet.NewGates(wallet.GateOptions{DB: h.db, Now: h.clock.Now, Log: slog.New(slog.DiscardHandler)})
	hold := func() uuid.UUID {
		made, err := gates.Authorise(h.t.Context(), wallet.HoldRequest{
			OrgID: org, Action: wallet.ActionSMS, Quantity: 1, Source: wallet.SourceAPI, Key: uuid.NewString(), Actor: audit.System("test"),
		})
		if err == nil { // the books are not what this is about
			_, err = gates.Void(h.t.Context(), wallet.Settlement{OrgID: org, Hold: made.ID, Source: wallet.SourceAPI, Actor: audit.System("test")})
		}
		if err != nil {
			h.t.Fatal(err)
		}
		return made.ID
	}
	user, credential := uuid.New(), uuid.New()
	const text = `INSERT INTO messages (id, org_id, sender, recipient, body, encoding, segments, state, hold_id, key, fingerprint, actor, created_at)
		VALUES ($1::uuid, $2, '+447400123456', '+447400123999', 'Hello', 'gsm-7', 1, 'sent', $3, $1::text, sha256('k'), 'system:test', now())`
	for _, s := range []struct {
		sql  string
		args []any
	}{
		{`INSERT INTO users (id, issuer, subject, email, created_at) VALUES ($1::uuid, 'local', $1::text, $1::text || '@o.example', now())`, []any{user}},
		{`INSERT INTO top_ups (id, org_id, user_id, amount_pence, usd_cents, rate_id, state, created_at, updated_at)
		  SELECT x, $3, $4, 5000, 1, r.id, 'processing', now(), now() FROM unnest(ARRAY[$1, $2]::uuid[]) x, (SELECT max(id) AS id FROM exchange_rates) r`, []any{p.topUp, p.paid, org, user}},
		{`INSERT INTO payments (payment_intent, org_id, top_up_id, amount_pence, paid_at, created_at, updated_at) VALUES ($3::text, $1, $2, 5000, now(), now(), now())`, []any{org, p.paid, "pi_" + p.paid.String()}},
		{`INSERT INTO credentials (id, org_id, provider, kind, account_sid, sealed, key_id, last_four, state, created_by, created_at, updated_at, tested_at)
		  VALUES ($1, $2, 'twilio', 'byoc', 'AC00112233445566778899aabbccddeeff', 'x', 1, '1234', 'working', 'system:test', now(), now(), now())`, []any{credential, org}},
		{
			`INSERT INTO numbers (id, org_id, phone_number, country, kind, state, step, next_at, account_sid, credential_id, sid, vapi_id, key, fingerprint, actor, created_at)
		  VALUES ($1::uuid, $2, '+4474001' || right($4::text, 5), 'GB', 'byoc', 'provisioning', 'activate', now(), 'AC1', $3, $1::text, $1::text, 'k', sha256('k'), 'system:test', now())`,
			[]any{p.number, org, credential, fmt.Sprintf("%05d", time.Now().Nanosecond()%100_000)},
		},
		{`INSERT INTO calls (id, org_id, direction, number_id, our_number, party, state, hold_id, ceiling_seconds, covered_seconds, key, fingerprint, actor, created_at, asked_at, look_at)
		  VALUES ($1, $2, 'outbound', $3, '+447400123456', '+447400123999', 'in_progress', $4, 60, 60, 'k', sha256('k'), 'system:test', now(), now(), now())`, []any{p.call, org, p.number, hold()}},
		{text, []any{p.text, org, hold()}},
		{text, []any{p.lost, org, hold()}},
	} {
		dbtest.Super(h.t, h.url, s.sql, s.args...)
	}
	return p
}

// happen has each thing happen that can be told, in a transaction of the organisation.
func (h *house) happen(org uuid.UUID, p planted) {
	h.t.Helper()
	err := h.db.InTx(h.t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		for _, sql := range []string{
			`UPDATE numbers SET state = 'active', step = '', next_at = NULL, activated_at = $7 WHERE id = $1`,
			`UPDATE numbers SET state = 'active', step = '' WHERE id = $1`, // the same again is no news
			`UPDATE calls SET state = 'completed', seconds = 30, amount_pence = 28, ended_at = $7, look_at = NULL WHERE id = $2`,
			`UPDATE messages SET state = 'delivered', ended_at = $7 WHERE id = $3`,
			`UPDATE messages SET state = 'undelivered', ended_at = $7, note = 'Unreachable' WHERE id = $4`,
			`INSERT INTO inbound_messages (id, org_id, number_id, sid, sender, recipient, body, meaning, received_at)
			 VALUES ($5::uuid, $8, $1, $5::text, '+447400123999', '+447400123456', 'Is Saturday fine?', 'none', $7)`,
			`UPDATE top_ups SET state = 'failed', updated_at = $7 WHERE id = $6`,
			`UPDATE numbers SET state = 'releasing', step = 'finish', next_at = $7, releasing_at = $7 WHERE id = $1`,
			`UPDATE numbers SET state = 'released', step = '', next_at = NULL, account_sid = NULL, credential_id = NULL, sid = NULL, vapi_id = NULL, ended_at = $7 WHERE id = $1`,
		} {
			// Every statement takes the same parameters; those it does not need are named and left out.
			full := `WITH p AS (SELECT $1::uuid, $2::uuid, $3::uuid, $4::uuid, $5::uuid, $6::uuid, $7::timestamptz, $8::uuid) ` + sql
			if _, err := tx.ExecContext(ctx, full, p.number, p.call, p.text, p.lost, p.received, p.topUp, tx.Now, org); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		_, err := wallet.CreditPayments(ctx, tx, []wallet.Payment{{PaymentIntent: "pi_" + p.paid.String(), OrgID: org, TopUpID: p.paid, Amount: 50_00, EventID: "evt"}})
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	dbtest.Super(h.t, h.url, `UPDATE top_ups SET state = 'paid', paid_pence = 5000 WHERE id = $1`, p.paid)
	// The house looks for low balances as the system.
	err = h.db.InSystemTx(h.t.Context(), "test", func(ctx context.Context, tx *db.Tx) error {
		return notice.Raise(ctx, tx, notice.Notice{OrgID: org, Kind: notice.LowBalance, Subject: "9", Data: map[string]any{"available_pence": 1, "mark_pence": 2}})
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// Every type is told once, by what really happens in the tables and as the roles that write them, to whoever chose it.
func TestEveryTypeIsTold(t *testing.T) {
	h := newHouse(t, nil)
	p, quiet := h.plant(h.org), h.plant(h.other)
	h.create(h.org, h.listener.URL)
	h.happen(h.org, p)
	h.happen(h.other, quiet) // nobody listens there
	h.work()
	told := map[webhooks.Type]map[string]any{}
	for _, r := range h.listener.all() {
		var m struct {
			Type      webhooks.Type
			Timestamp time.Time
			Data      map[string]any
		}
		if err := json.Unmarshal(r.body, &m); err != nil {
			t.Fatal(err)
		}
		if told[m.Type] != nil || !m.Timestamp.Equal(dbtest.Start) {
			t.Errorf("%s is told twice, or of another moment: %s", m.Type, m.Timestamp)
		}
		told[m.Type] = m.Data
	}
	for _, kind := range webhooks.Types {
		if told[kind] == nil {
			t.Errorf("%s is not told", kind)
		}
	}
	if len(told) != len(webhooks.Types) || h.count(`SELECT count(*) FROM webhook_events WHERE org_id = $1`, h.other) != 0 {
		t.Errorf("%d types are told, or something to nobody", len(told))
	}
	for _, c := range []struct {
		kind webhooks.Type
		name string
		want any
	}{
		{webhooks.WalletCredited, "amount_pence", 5000.},
		{webhooks.WalletLow, "available_pence", 1.},
		{webhooks.TopUpFailed, "id", p.topUp.String()},
		{webhooks.NumberActive, "id", p.number.String()},
		{webhooks.NumberReleased, "state", "released"},
		{webhooks.CallEnded, "seconds", 30.},
		{webhooks.CallEnded, "amount_pence", 28.},
		{webhooks.MessageReceived, "body", "Is Saturday fine?"},
		{webhooks.MessageDelivered, "id", p.text.String()},
		{webhooks.MessageFailed, "note", "Unreachable"},
	} {
		if got := told[c.kind][c.name]; got != c.want {
			t.Errorf("%s: %s is %v, want %v", c.kind, c.name, got, c.want)
		}
	}
}

// What people said is forgotten here when it is erased there, and not kept longer than the organisation keeps it.
func TestErasedWordsAreForgotten(t *testing.T) {
	h := newHouse(t, nil)
	p := h.plant(h.org)
	h.create(h.org, h.listener.URL)
	h.happen(h.org, p)
	h.work()
	left := func() (types []string) {
		dbtest.Select(t, h.url, &types, `SELECT type FROM webhook_events ORDER BY type`)
		return types
	}
	if n := len(left()); n != len(webhooks.Types) {
		t.Fatalf("%d events", n)
	}
	err := h.db.InTx(t.Context(), []uuid.UUID{h.org}, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE inbound_messages SET body = '', erased_at = $2 WHERE id = $1`, p.received, tx.Now)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(left(), "message.received") || h.count(`SELECT count(*) FROM webhook_deliveries`) != len(webhooks.Types)-1 {
		t.Errorf("what was erased is kept: %v", left())
	}
	dbtest.Super(t, h.url, `INSERT INTO retentions (org_id, days, updated_at) VALUES ($1, 2, now())`, h.org)
	h.clock.Advance(49 * time.Hour)
	if n, err := h.Sweep(t.Context()); err != nil || n != 3 { // the call and the two texts
		t.Errorf("%d were forgotten, %v: %v left", n, err, left())
	}
	if got := left(); slices.Contains(got, "call.ended") || !slices.Contains(got, "wallet.low") {
		t.Errorf("%v is left", got)
	}
}
