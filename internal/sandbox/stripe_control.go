package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

const controlPath = "/sandbox/stripe"

// mountControl serves what a developer or a test does to the stand-in, as opposed to what Stripe's API offers.
func (s *Stripe) mountControl(mux *http.ServeMux) {
	handle := controls(mux, controlPath, "/")
	handle("GET /books", func(*http.Request) (any, error) { return s.Books(), nil })
	controlFaults(handle, &s.faults)
	handle("GET /webhooks", func(*http.Request) (any, error) { return s.webhooksView(), nil })
	handle("POST /webhooks", s.controlWebhooks)
	handle("GET /events/{id}/delivery", s.controlDelivery)
	handle("POST /events/{id}/resend", func(r *http.Request) (any, error) {
		return map[string]string{"resent": r.PathValue("id")}, s.Resend(r.PathValue("id"))
	})
	handle("POST /sessions/{id}/settle", func(r *http.Request) (any, error) {
		outcome := r.FormValue("outcome")
		if outcome != "succeed" && outcome != "fail" {
			return nil, invalid("", "outcome", "outcome must be succeed or fail")
		}
		return s.changed(func(tx *txn) (any, error) {
			if err := tx.settle(r.PathValue("id"), outcome == "succeed"); err != nil {
				return nil, err
			}
			return s.sessionView(s.sessions.get(r.PathValue("id"))), nil
		})
	})
	handle("POST /payment_methods/{id}/outcome", func(r *http.Request) (any, error) {
		return s.changed(func(tx *txn) (any, error) { return shown(tx.setOutcome(r.PathValue("id"), r.FormValue("outcome"))) })
	})
	handle("POST /payment_methods/{id}/detach", func(r *http.Request) (any, error) {
		return s.changed(func(tx *txn) (any, error) { return shown(tx.detach(r.PathValue("id"))) })
	})
	handle("POST /charges/{id}/refund", func(r *http.Request) (any, error) {
		amount, err := formAmount(r)
		if err != nil {
			return nil, err
		}
		return s.changed(func(tx *txn) (any, error) {
			ch, err := tx.paidCharge(r.PathValue("id"), "")
			if err != nil {
				return nil, err
			}
			if amount == 0 {
				amount = ch.Wire.Amount - ch.Wire.AmountRefunded
			}
			return shown(tx.refund(ch, amount, "requested_by_customer", map[string]string{}))
		})
	})
	handle("POST /charges/{id}/dispute", func(r *http.Request) (any, error) {
		amount, err := formAmount(r)
		if err != nil {
			return nil, err
		}
		inquiry := r.FormValue("kind") == "inquiry"
		return s.changed(func(tx *txn) (any, error) { return shown(tx.openDispute(r.PathValue("id"), amount, inquiry)) })
	})
	handle("POST /disputes/{id}/close", func(r *http.Request) (any, error) {
		outcome := r.FormValue("outcome")
		if outcome != "won" && outcome != "lost" {
			return nil, invalid("", "outcome", "outcome must be won or lost")
		}
		return s.changed(func(tx *txn) (any, error) { return shown(tx.closeDispute(r.PathValue("id"), outcome == "won")) })
	})
	handle("POST /disputes/{id}/escalate", func(r *http.Request) (any, error) {
		return s.changed(func(tx *txn) (any, error) { return shown(tx.escalateDispute(r.PathValue("id"))) })
	})
	handle("POST /refunds/{id}/fail", func(r *http.Request) (any, error) {
		return s.changed(func(tx *txn) (any, error) { return shown(tx.failRefund(r.PathValue("id"))) })
	})
}

// shown gives the object of a row, or the error.
func shown[W any](r *row[W], err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return r.Wire, nil
}

// changed is change for something that also gives a value. What it gives must be a copy.
func (s *Stripe) changed(fn func(tx *txn) (any, error)) (v any, err error) {
	err = s.change(func(tx *txn) error {
		v, err = fn(tx)
		return err
	})
	return v, err
}

// formAmount reads an optional amount in minor units; zero when there is none.
func formAmount(r *http.Request) (int64, error) {
	raw := r.FormValue("amount")
	if raw == "" {
		return 0, nil
	}
	amount, err := strconv.ParseInt(raw, 10, 64)
	if err != nil || amount < 1 {
		return 0, invalid("", "amount", "Invalid positive integer: %s", raw)
	}
	return amount, nil
}

func (s *Stripe) controlWebhooks(r *http.Request) (any, error) {
	raw, err := readControl(r, "settings")
	if err != nil {
		return nil, err
	}
	var wanted struct {
		Enabled *bool `json:"enabled"`
	}
	if err := json.Unmarshal(raw, &wanted); err != nil || wanted.Enabled == nil {
		return nil, invalid("", "enabled", `The body must be {"enabled": true} or {"enabled": false}.`)
	}
	return map[string]any{"enabled": *wanted.Enabled, "url": s.webhookURL}, s.SetWebhooks(*wanted.Enabled)
}

func (s *Stripe) webhooksView() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string]any{"enabled": !s.settings.WebhooksOff, "url": s.webhookURL}
}

func (s *Stripe) controlDelivery(r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.delivery[r.PathValue("id")]
	if d == nil {
		return nil, noSuch("event", r.PathValue("id"), "")
	}
	return *d, nil
}

// SetFaults replaces the rules in force; with none it clears them. Faulty rules change nothing and are named.
func (s *Stripe) SetFaults(rules ...Fault) error { return s.faults.set(rules) }

// Faults gives the rules still in force, with the strikes they have left.
func (s *Stripe) Faults() []Fault { return s.faults.get() }

// Books is what the stand-in would pay out, counted from its own charges, refunds and disputes, for comparison with
// other books. Amounts are in minor units (pence for GBP).
type Books struct {
	Payments []BookedPayment `json:"payments"`
	// Totals are by currency.
	Totals map[string]BookTotals `json:"totals"`
	// SessionsPerTopUp counts checkout sessions by top_up_id of their metadata: more than one means that a top-up
	// was opened again.
	SessionsPerTopUp map[string]int   `json:"sessions_per_top_up"`
	Idempotency      IdempotencyStats `json:"idempotency"`
	// Undelivered counts the events that were not delivered: pending, failed or lost.
	Undelivered int `json:"undelivered"`
	// Lost are those of them that never will be, unless somebody resends them.
	Lost int `json:"lost"`
}

// BookedPayment is one PaymentIntent.
type BookedPayment struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	TopUpID  string `json:"top_up_id"`
	Session  string `json:"session"`
	Currency string `json:"currency"`
	Status   string `json:"status"`
	// Amount is what was asked for, AmountReceived what was paid.
	Amount         int64 `json:"amount"`
	AmountReceived int64 `json:"amount_received"`
	AmountRefunded int64 `json:"amount_refunded"`
	// AmountDisputed is what disputes hold or have taken; inquiries and won disputes take nothing.
	AmountDisputed int64 `json:"amount_disputed"`
	Disputed       bool  `json:"disputed"`
	// Net is received less refunded less disputed. Fees are not counted.
	Net int64 `json:"net"`
}

// BookTotals sums payments of one currency.
type BookTotals struct {
	Payments int   `json:"payments"`
	Received int64 `json:"received"`
	Refunded int64 `json:"refunded"`
	Disputed int64 `json:"disputed"`
	Net      int64 `json:"net"`
}

// Books counts everything afresh.
func (s *Stripe) Books() Books {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := Books{
		Payments: []BookedPayment{}, Totals: map[string]BookTotals{}, SessionsPerTopUp: map[string]int{},
		Idempotency: s.stats,
	}
	refunded, disputed, contested := map[string]int64{}, map[string]int64{}, map[string]bool{}
	for _, r := range s.refunds.order {
		if r.Wire.Status == refundSucceeded {
			refunded[string(r.Wire.PaymentIntent)] += r.Wire.Amount
		}
	}
	for _, r := range s.disputes.order {
		contested[string(r.Wire.PaymentIntent)] = true
		for _, bt := range r.Wire.BalanceTransactions {
			disputed[string(r.Wire.PaymentIntent)] -= bt.Amount
		}
	}
	for _, r := range s.intents.order {
		w := &r.Wire
		p := BookedPayment{
			ID: w.ID, Customer: string(w.Customer), TopUpID: w.Metadata["top_up_id"], Session: r.Own.Session,
			Currency: w.Currency, Status: w.Status, Amount: w.Amount, AmountReceived: w.AmountReceived,
			AmountRefunded: refunded[w.ID], AmountDisputed: disputed[w.ID], Disputed: contested[w.ID],
		}
		p.Net = p.AmountReceived - p.AmountRefunded - p.AmountDisputed
		b.Payments = append(b.Payments, p)
		t := b.Totals[w.Currency]
		if p.AmountReceived > 0 {
			t.Payments++
		}
		t.Received += p.AmountReceived
		t.Refunded += p.AmountRefunded
		t.Disputed += p.AmountDisputed
		t.Net += p.Net
		b.Totals[w.Currency] = t
	}
	for _, r := range s.sessions.order {
		if id := r.Wire.Metadata["top_up_id"]; id != "" {
			b.SessionsPerTopUp[id]++
		}
	}
	for _, d := range s.delivery {
		if d.State == deliveryPending || d.State == deliveryFailed || d.State == deliveryLost {
			b.Undelivered++
		}
		if d.State == deliveryLost {
			b.Lost++
		}
	}
	return b
}

// String sums the books up in a line, for test failures.
func (b Books) String() string {
	t := b.Totals["gbp"]
	return fmt.Sprintf("%d payments, received %dp, refunded %dp, disputed %dp, net %dp, %d undelivered events",
		t.Payments, t.Received, t.Refunded, t.Disputed, t.Net, b.Undelivered)
}
