package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"ringfence/internal/fault"
	"ringfence/internal/payments"
	"ringfence/views"
)

// maxShown is how much of a payload its page shows, in bytes; the whole can be downloaded.
const maxShown = 64 << 10

// maxDepth is how deep a payload may be nested and still be indented: each level makes every line inside it longer.
const maxDepth = 64

// stripeEvents lists Stripe's events.
func (a *app) stripeEvents(w http.ResponseWriter, r *http.Request, v *visit) error {
	q := r.URL.Query()
	filter := payments.EventFilter{
		State: payments.EventState(q.Get("state")), Type: q.Get("type"), Text: strings.TrimSpace(q.Get("q")),
	}
	from, err := cursorOf(q.Get("before"))
	if err != nil || filter.State != "" && !slices.Contains(payments.EventStates(), filter.State) {
		return errNoPage()
	}
	list, err := a.Payments.Events(r.Context(), filter, from)
	if err != nil {
		return err
	}
	overview, err := a.Payments.EventOverview(r.Context())
	if err != nil {
		return err
	}
	p := views.EventsPage{
		Meta:   a.meta(r, v, "Stripe events"),
		Filter: views.EventFilter{State: views.EventState(filter.State), Type: filter.Type, Text: filter.Text},
		Types:  overview.Types, First: from == payments.EventCursor{}, OldestWaiting: a.waiting(overview),
	}
	for _, s := range payments.EventStates() {
		p.Counts = append(p.Counts, countOf(overview, s))
	}
	for _, e := range list.Events {
		p.Events = append(p.Events, shownEvent(e))
	}
	if p.First && p.Filter == (views.EventFilter{}) {
		if p.Webhook, err = a.webhook(r.Context()); err != nil {
			return err
		}
		if p.Reconciliation, err = a.reconciliation(r.Context()); err != nil {
			return err
		}
	}
	if list.Older != nil {
		p.Older = cursorText(*list.Older)
	}
	if n, err := strconv.Atoi(q.Get("replayed")); err == nil && n > 0 && n <= payments.ReplayLimit { // only a sentence; anybody may write it
		p.Replayed, p.MoreFailed = n, overview.Counts[payments.EventFailed] > 0 && n == payments.ReplayLimit
	}
	return a.render(w, r, http.StatusOK, views.StripeEvents(p))
}

// webhook is how the way from Stripe to us stands.
func (a *app) webhook(ctx context.Context) (*views.Webhook, error) {
	w, err := a.Payments.Webhook(ctx)
	if err != nil {
		return nil, err
	}
	t := w.Traffic
	shown := &views.Webhook{
		URL: w.URL, Version: w.Version, Handled: len(w.Events), StandIn: w.StandIn, AskedAt: w.AskedAt, Unanswered: w.Unanswered,
		Received: t.Received, Worked: t.Worked, Waiting: t.Waiting, Quarantined: t.Quarantined, Failed: t.Failed, Capped: t.Capped,
		Median: t.Median, P99: t.P99, Fetched: t.Fetched, LastID: t.LastID, LastType: t.LastType, LastAt: t.LastAt,
		Refused: w.Refused, LastRefused: w.LastRefused, Since: w.Since,
	}
	for _, e := range w.Endpoints {
		shown.Endpoints = append(shown.Endpoints, views.WebhookEndpoint{
			ID: e.ID, Enabled: e.Enabled, Version: e.APIVersion, Same: e.APIVersion == w.Version, Missing: e.Missing(), Extra: e.Extra(),
		})
	}
	return shown, nil
}

// reconciliation is how the comparison with Stripe stands.
func (a *app) reconciliation(ctx context.Context) (*views.Reconciliation, error) {
	o, err := a.Payments.ReconciliationOverview(ctx)
	if err != nil {
		return nil, err
	}
	return &views.Reconciliation{
		Healed: o.Healed, HealedPence: o.HealedPence, MedianDelay: o.MedianDelay,
		Last: o.Last, LookedAt: o.LookedAt, Disagreements: o.Disagreements, Failed: o.Failed,
	}, nil
}

// waiting is the age of the oldest event that waits; zero when none does.
func (a *app) waiting(v payments.EventOverview) time.Duration {
	if v.OldestWaiting.IsZero() {
		return 0
	}
	return max(a.Now().Sub(v.OldestWaiting), time.Nanosecond)
}

func countOf(v payments.EventOverview, s payments.EventState) views.EventCount {
	n := v.Counts[s]
	return views.EventCount{State: views.EventState(s), N: min(n, payments.CountLimit), More: n > payments.CountLimit}
}

// cursorText writes a cursor as it stands in an address: microseconds, as the database keeps them, and the id.
func cursorText(c payments.EventCursor) string {
	return strconv.FormatInt(c.ReceivedAt.UnixMicro(), 10) + "." + c.ID
}

// cursorOf reads what cursorText wrote; empty is the beginning.
func cursorOf(text string) (payments.EventCursor, error) {
	if text == "" {
		return payments.EventCursor{}, nil
	}
	micros, id, _ := strings.Cut(text, ".")
	n, err := strconv.ParseInt(micros, 10, 64)
	// From 1970 to 9999: what Postgres and the list know as times.
	if err != nil || n <= 0 || n > 253402300799_000000 || len(id) > 255 || strings.ContainsFunc(id, notPrinted) {
		return payments.EventCursor{}, errNoPage()
	}
	return payments.EventCursor{ReceivedAt: time.UnixMicro(n).UTC(), ID: id}, nil
}

func notPrinted(r rune) bool { return r < 0x21 || r > 0x7e }

func shownEvent(e payments.EventSummary) views.StripeEvent {
	return views.StripeEvent{
		ID: e.ID, Type: e.Type, State: views.EventState(e.State), Reason: e.Reason, OrgName: e.OrgName, TopUpID: idText(e.TopUpID),
		PaymentIntent: e.PaymentIntent, Attempts: e.Attempts, ReceivedAt: e.ReceivedAt,
	}
}

// idText is an id, or nothing for the id of nothing.
func idText(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}

// stripeEvent shows one event. While it waits the page asks again, by this same address.
func (a *app) stripeEvent(w http.ResponseWriter, r *http.Request, v *visit) error {
	p, err := a.eventPage(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	p.Meta = a.meta(r, v, p.Event.Type)
	p.Meta.RefreshSeconds = p.Soon()
	if isFragment(r) {
		if r.URL.Query().Get("seen") == p.Seen() {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		return a.render(w, r, http.StatusOK, views.EventStatus(p))
	}
	return a.render(w, r, http.StatusOK, views.StripeEventPage(p))
}

// eventPage is the model of an event's page, but for what every page has.
func (a *app) eventPage(ctx context.Context, id string) (views.EventPage, error) {
	d, err := a.Payments.Event(ctx, id)
	if err != nil {
		return views.EventPage{}, err
	}
	p := views.EventPage{
		Event: shownEvent(d.EventSummary), OccurredAt: d.OccurredAt, NextAttemptAt: d.NextAttemptAt,
		Retrying: d.State == payments.EventReceived && d.Attempts > 0, Fetched: d.Fetched, History: history(d), Payload: shownPayload(d.Payload),
	}
	if t := d.TopUp; t != nil {
		p.TopUp = &views.EventTopUp{
			ID: t.ID.String(), State: views.TopUpState(t.State), Amount: t.Amount, Paid: t.Paid, SessionID: t.SessionID, Note: t.Note, CreatedAt: t.CreatedAt,
		}
	}
	if t := d.Payment; t != nil {
		p.Payment = &views.EventPayment{PaymentIntent: t.PaymentIntent, Amount: t.Amount}
		if t.PaidAt != nil {
			p.Payment.PaidAt = *t.PaidAt
		}
	}
	if c := d.Credit; c != nil {
		p.Credit = &views.EventCredit{
			TransactionID: c.TransactionID.String(), Seq: c.Seq, Description: c.Description, Amount: c.Amount, BalanceAfter: c.BalanceAfter, At: c.CreatedAt,
		}
		for _, posting := range c.Postings {
			p.Credit.Postings = append(p.Credit.Postings, views.EventPosting{Account: posting.Account, Amount: posting.Amount})
		}
	}
	fillReversals(&p, d)
	return p, nil
}

// fillReversals adds what became of the payment after it was credited.
func fillReversals(p *views.EventPage, d payments.EventDetail) {
	for _, r := range d.Refunds {
		p.Refunds = append(p.Refunds, views.EventRefund{ID: r.ID, Amount: r.Amount, Status: r.Status, Counts: r.Counts(), At: r.CreatedAt})
	}
	for _, t := range d.Disputes {
		p.Disputes = append(p.Disputes, views.EventDispute{
			ID: t.ID, Amount: t.Amount, Withdrawn: t.Withdrawn, Status: t.Status, Reason: t.Reason, Open: t.Open(), Froze: t.Froze, At: t.CreatedAt,
		})
	}
	for _, r := range d.Reversals {
		p.Reversals = append(p.Reversals, views.EventReversal{
			TransactionID: r.TransactionID.String(), Kind: r.Kind, Amount: r.Amount, Bonus: r.Bonus, BalanceAfter: r.BalanceAfter, DebtAfter: r.DebtAfter,
			Seq: r.Seq, At: r.CreatedAt,
		})
	}
}

// history tells what happened to an event, oldest first: what its row knows and what the audit log does.
func history(d payments.EventDetail) []views.EventStep {
	steps := []views.EventStep{{At: d.ReceivedAt, Title: "Received and stored"}}
	for _, h := range d.History {
		step := views.EventStep{At: h.At, Title: h.Action, By: h.Email, Text: h.Reason}
		if step.By == "" {
			step.By = h.Actor
		}
		switch h.Action {
		case "stripe_event.replayed":
			step.Title = "Replayed"
			if h.From != "" {
				step.Title = "Replayed, was " + string(h.From)
			}
			if h.Before != "" {
				step.Text += " (before: " + h.Before + ")"
			}
		case "topup.started":
			step.Title = "Top-up started"
		case "wallet.credited":
			step.Title = "Wallet credited"
		case "wallet.reversed":
			step.Title = "Wallet brought to the payment's refunds and disputes"
		}
		steps = append(steps, step)
	}
	switch {
	case d.ProcessedAt != nil:
		steps = append(steps, views.EventStep{At: *d.ProcessedAt, Title: "Settled: " + string(d.State), Text: d.Reason})
	case d.State == payments.EventFailed:
		steps = append(steps, views.EventStep{At: d.GivenUpAt(), Title: "Given up", Text: d.Reason})
	case d.State == payments.EventQuarantined: // it could not even be read
		steps = append(steps, views.EventStep{At: d.ReceivedAt, Title: "Settled: quarantined", Text: d.Reason})
	}
	slices.SortStableFunc(steps, func(x, y views.EventStep) int { return x.At.Compare(y.At) })
	return steps
}

// shownPayload makes a body fit to be read: indented where it is JSON, without control characters, cut to maxShown.
func shownPayload(body []byte) views.Payload {
	p := views.Payload{Bytes: len(body), JSON: json.Valid(body)}
	shown := body
	if p.JSON && depth(body) <= maxDepth {
		var b bytes.Buffer
		if json.Indent(&b, body, "", "  ") == nil {
			shown = b.Bytes()
		}
	}
	if len(shown) > maxShown {
		shown, p.Cut = shown[:maxShown], true
	}
	p.Text = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || !unicode.IsControl(r) && !unicode.Is(unicode.Cf, r) {
			return r
		}
		return unicode.ReplacementChar // what cannot be seen could make the rest look like something else
	}, strings.ToValidUTF8(string(shown), string(unicode.ReplacementChar)))
	return p
}

// depth is how deep valid JSON is nested.
func depth(body []byte) (deepest int) {
	now, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}

// stripePayload sends a body as it came, as a file: never something that a browser would show.
func (a *app) stripePayload(w http.ResponseWriter, r *http.Request, _ *visit) error {
	d, err := a.Payments.Event(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="`+d.ID+`.json"`) // letters, digits and _ only: see payments
	h.Set("Content-Length", strconv.Itoa(len(d.Payload)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(d.Payload) // a browser that went away is no news
	return nil
}

// replayEvent puts one event back to be worked and shows what becomes of it.
func (a *app) replayEvent(w http.ResponseWriter, r *http.Request, v *visit) error {
	id, reason := r.PathValue("id"), r.PostForm.Get("reason")
	err := a.Payments.Replay(r.Context(), v.who.UserID, id, reason)
	if f := fault.As(err); err != nil && f.Field == "reason" {
		p, err := a.eventPage(r.Context(), id)
		if err != nil {
			return err
		}
		p.Meta, p.Reason, p.Error = a.meta(r, v, p.Event.Type), typed(reason), f.Public
		p.Meta.Path = "/ops/stripe-events/" + id
		return a.render(w, r, answerTo(f.Kind).status, views.StripeEventPage(p))
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/ops/stripe-events/"+url.PathEscape(id), http.StatusSeeOther)
	return nil
}

// maxReasonTyped is how much of a reason is shown back to who typed it, in bytes.
const maxReasonTyped = 2000

func typed(reason string) string {
	if len(reason) > maxReasonTyped {
		return ""
	}
	return strings.ToValidUTF8(strings.ReplaceAll(reason, "\x00", ""), "")
}

// replayFailedPage asks before all failed events are replayed.
func (a *app) replayFailedPage(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.askReplayFailed(w, r, v, http.StatusOK, views.ReplayPage{})
}

func (a *app) askReplayFailed(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.ReplayPage) error {
	overview, err := a.Payments.EventOverview(r.Context())
	if err != nil {
		return err
	}
	p.Meta, p.Failed, p.Limit = a.meta(r, v, "Replay all failed events"), countOf(overview, payments.EventFailed), payments.ReplayLimit
	return a.render(w, r, status, views.ReplayFailed(p))
}

// replayFailed puts the failed events back to be worked, once somebody said why and that they mean it.
func (a *app) replayFailed(w http.ResponseWriter, r *http.Request, v *visit) error {
	p := views.ReplayPage{Reason: typed(r.PostForm.Get("reason"))}
	if r.PostForm.Get("confirm") != "yes" {
		p.ConfirmError = "Tick this to say that you mean it."
		return a.askReplayFailed(w, r, v, answerTo(fault.Invalid).status, p)
	}
	n, err := a.Payments.ReplayFailed(r.Context(), v.who.UserID, r.PostForm.Get("reason"))
	if f := fault.As(err); err != nil && f.Field == "reason" {
		p.ReasonError = f.Public
		return a.askReplayFailed(w, r, v, answerTo(f.Kind).status, p)
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/ops/stripe-events?replayed="+strconv.Itoa(n), http.StatusSeeOther)
	return nil
}
