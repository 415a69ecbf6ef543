package faulttest

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"ringfence/internal/failpoint"
	"ringfence/internal/sandbox"
)

// TestKilledWhileToppingUp: kill -9 of the worker that charges a saved card by itself, when its row is committed and Stripe
// has not been asked, and when Stripe has charged and nobody knows. Another worker goes on from what is there: the card is
// charged once, and the wallet credited once.
func TestKilledWhileToppingUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		point string
		paid  int // how often Stripe was paid when the worker was dead
	}{
		"before it asks":    {failpoint.AutoTopUpBeforeAsk, 0},
		"before it answers": {failpoint.AutoTopUpAfterAsk, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			web := w.web()
			box, err := sandbox.Start(t.Context(), sandbox.Options{
				Addr: "127.0.0.1:0", StateFile: filepath.Join(t.TempDir(), "sandbox"), Logger: slog.New(slog.DiscardHandler),
				WebhookURL: web.base() + "/api/webhooks/stripe", WebhookSecret: webhookSecret,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = box.Close() })
			worker := func() *process {
				p := w.process("worker", "work")
				p.env["STRIPE_API_BASE"] = box.URL()
				p.start()
				p.ready()
				return p
			}
			paid := func() (n int) {
				for _, p := range box.Stripe().Books().Payments {
					if p.AmountReceived == 700_00 {
						n++
					}
				}
				return n
			}
			first := worker()
			first.arm(c.point)
			w.allowAutoTopUp(box.URL())
			first.killed()
			if n := paid(); n != c.paid {
				t.Errorf("Stripe was paid %d times before the kill, want %d", n, c.paid)
			}
			if n := w.number(`SELECT count(*) FROM top_ups WHERE automatic AND state = 'creating'`); n != 1 {
				t.Errorf("%d automatic top-ups are in flight", n)
			}
			until(t, "the dead worker's transactions to be gone", func() bool {
				return w.number(`SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'`) == 0
			})
			w.alter(`UPDATE top_ups SET asked_at = asked_at - interval '31 seconds' WHERE automatic`) // half a minute passes
			worker()
			until(t, "the credit", func() bool { return w.number(`SELECT count(*) FROM credits WHERE amount_pence = 70000`) == 1 })
			w.alter(`INSERT INTO river_job (kind, args, max_attempts, state, queue) VALUES ('auto_top_ups', '{"again":1}', 1, 'available', 'auto_top_ups')`)
			until(t, "another round", func() bool {
				return w.number(`SELECT count(*) FROM river_job WHERE kind = 'auto_top_ups' AND args ? 'again' AND state = 'completed'`) == 1
			})
			if n := paid(); n != 1 {
				t.Errorf("Stripe was paid %d times", n)
			}
			if n := w.number(`SELECT count(*) FROM top_ups WHERE automatic`); n != 1 {
				t.Errorf("%d automatic top-ups, want one", n)
			}
			w.verify()
		})
	}
}

// allowAutoTopUp gives Harbour Dental a card at the Stripe at base, and lets £700.00 be charged to it.
func (w *world) allowAutoTopUp(base string) {
	w.t.Helper()
	made := func(path string, form url.Values) string {
		req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, base+"/v1/"+path, strings.NewReader(form.Encode()))
		if err != nil {
			w.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer sk_test_faults")
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			w.t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			w.t.Fatal(err)
		}
		var object struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(body, &object); err != nil || object.ID == "" {
			w.t.Fatalf("%s is answered with %s", path, body)
		}
		return object.ID
	}
	customer := made("customers", nil)
	card := made("payment_methods/pm_card_visa/attach", url.Values{"customer": {customer}})
	const who = ` FROM organizations o JOIN memberships m ON m.org_id = o.id AND m.role = 'owner' WHERE o.name = 'Harbour Dental'`
	w.alter(`UPDATE stripe_customers SET customer_id = '` + customer + `' WHERE org_id = (SELECT id FROM organizations WHERE name = 'Harbour Dental')`)
	w.alter(`
		INSERT INTO saved_cards (payment_method, org_id, brand, last4, exp_month, exp_year, consented_by, consented_at, consent, created_at)
		SELECT '` + card + `', o.id, 'visa', '4242', 12, 2099, m.user_id, now(), 'I agree.', now()` + who)
	w.alter(`
		INSERT INTO auto_top_ups (org_id, state, threshold_pence, amount_pence, daily_cap_pence, monthly_cap_pence, consented_by, consented_at, consent, created_at, updated_at)
		SELECT o.id, 'ready', 60000, 70000, 140000, 140000, m.user_id, now(), 'I agree.', now(), now()` + who)
}
