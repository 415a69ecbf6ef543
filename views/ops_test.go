package views

import (
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"
	"github.com/a-h/templ"
)

func operatorMeta(title, path string) PageMeta {
	m := meta(title, path)
	m.User = User{Email: "operator@ringfence.example", Operator: true}
	return m
}

func eventsPage() EventsPage {
	return EventsPage{
		Meta:           operatorMeta("Stripe events", "/ops/stripe-events"),
		Counts:         []EventCount{{EventQuarantined, 3, false}, {EventFailed, 1, false}, {EventReceived, 2, false}, {EventProcessed, 10000, true}, {EventIgnored, 0, false}},
		Webhook:        webhookInOrder(),
		Reconciliation: &Reconciliation{Healed: 4, HealedPence: 12500, MedianDelay: 3 * time.Minute, Last: noon, LookedAt: 1234, Disagreements: 1, Failed: "couldn't ask Stripe"},
		Types:          []string{"charge.updated", "payment_intent.succeeded"}, OldestWaiting: 5 * time.Minute, First: true, Older: "1.evt_1", Replayed: 1,
		Events: []StripeEvent{
			{ID: "evt_1", Type: "payment_intent.succeeded", State: EventProcessed, OrgName: "Harbour Dental", TopUpID: "01900000-0000-7000-8000-00000000000a", PaymentIntent: "pi_1", Attempts: 1, ReceivedAt: noon},
			{ID: "evt_2", Type: "charge.updated", State: EventQuarantined, Reason: "paid by nobody", ReceivedAt: noon},
		},
	}
}

func webhookInOrder() *Webhook {
	return &Webhook{
		URL: "https://ringfence.example/api/webhooks/stripe", Version: "2023-10-16", Handled: 15, AskedAt: noon,
		Endpoints: []WebhookEndpoint{{ID: "we_1", Enabled: true, Version: "2023-10-16", Same: true}},
		Received:  1200, Worked: 1200, Median: 3 * time.Millisecond, P99: 1500 * time.Millisecond, LastID: "evt_1", LastType: "payment_intent.succeeded", LastAt: noon, Since: noon,
	}
}

// webhooks are the ways in which the endpoint can stand, with what the card must say.
func webhooks() map[string]struct {
	change func(*Webhook)
	says   []string
} {
	return map[string]struct {
		change func(*Webhook)
		says   []string
	}{
		"in order": {func(*Webhook) {}, []string{
			"In order", "100%", "of 1,200 events", "All worked", "3 ms median", "1 s 99 of 100", "None refused", "All 15 types", "2023-10-16, as ours", "Enabled",
			"payment_intent.succeeded", "None in the last day",
		}},
		"not asked":     {func(w *Webhook) { w.Endpoints, w.Unanswered = nil, "Stripe could not be reached." }, []string{"Not known", "Stripe could not be reached.", "100%"}},
		"missing":       {func(w *Webhook) { w.Endpoints = nil }, []string{"Missing", "ringfence stripe setup"}},
		"stand-in":      {func(w *Webhook) { w.Endpoints, w.StandIn = nil, true }, []string{"Not needed", "without an endpoint"}},
		"disabled":      {func(w *Webhook) { w.Endpoints[0].Enabled = false }, []string{"Disabled", "switched off", "ringfence stripe setup"}},
		"incomplete":    {func(w *Webhook) { w.Endpoints[0].Missing = []string{"refund.created", "refund.updated"} }, []string{"Incomplete", "13 of the 15 types", "Not: refund.created, refund.updated"}},
		"other version": {func(w *Webhook) { w.Endpoints[0].Same, w.Endpoints[0].Version = false, "2020-08-27" }, []string{"Other version", "2020-08-27, ours is 2023-10-16", "ringfence stripe rotate"}},
		"account's own": {func(w *Webhook) { w.Endpoints[0].Same, w.Endpoints[0].Version = false, "" }, []string{"The account's own, not 2023-10-16"}},
		"being replaced": {func(w *Webhook) {
			w.Endpoints = append(w.Endpoints, WebhookEndpoint{ID: "we_2", Enabled: true, Same: true})
		}, []string{"Being replaced", "rotate --retire", "we_2"}},
		"sends everything": {func(w *Webhook) { w.Endpoints[0].Extra = []string{"*"} }, []string{"Sends too much", "For nothing: every type that there is"}},
		"some failed":      {func(w *Webhook) { w.Worked, w.Quarantined, w.Failed, w.Waiting = 1195, 2, 1, 2 }, []string{"3 events to look at", "99.5%", "2 quarantined, 1 failed, 2 waiting"}},
		"one of very many": {func(w *Webhook) { w.Received, w.Worked, w.Waiting, w.Capped = 5000, 4999, 1, true }, []string{"1 waiting", "99.9%", "of the newest 5,000 events"}},
		"nothing came":     {func(w *Webhook) { w.Received, w.Worked, w.LastAt = 0, 0, time.Time{} }, []string{"Nothing came", "Nothing to measure", "None yet"}},
		"some refused":     {func(w *Webhook) { w.Refused, w.LastRefused = 3, noon }, []string{"3 refused", "last"}},
		"all refused":      {func(w *Webhook) { w.Received, w.Worked, w.Refused, w.LastRefused = 0, 0, 3, noon }, []string{"3 refused, none taken", "Is STRIPE_WEBHOOK_SECRET"}},
		"some fetched":     {func(w *Webhook) { w.Fetched = 4 }, []string{"4 events", "found by comparing"}},
		"hostile": {func(w *Webhook) {
			w.URL, w.Unanswered, w.LastType, w.LastID = hostile, hostile, hostile, hostile
			w.Endpoints = []WebhookEndpoint{{ID: hostile, Version: hostile, Missing: []string{hostile}, Extra: []string{hostile}}}
		}, nil},
	}
}

// TestWebhookCard: every way in which the endpoint can stand has its word.
func TestWebhookCard(t *testing.T) {
	for name, c := range webhooks() {
		p := eventsPage()
		c.change(p.Webhook)
		text := words(parse(t, StripeEvents(p)).Find("#webhook"))
		for _, want := range c.says {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is not in %q", name, want, text)
			}
		}
	}
}

func eventPageOf(s EventState) EventPage {
	return EventPage{
		Meta: operatorMeta("payment_intent.succeeded", "/ops/stripe-events/evt_1"), OccurredAt: noon, NextAttemptAt: noon,
		Event:   StripeEvent{ID: "evt_1", Type: "payment_intent.succeeded", State: s, Reason: "why", OrgName: "Harbour Dental", TopUpID: "t1", PaymentIntent: "pi_1", Attempts: 2, ReceivedAt: noon},
		TopUp:   &EventTopUp{ID: "t1", State: TopUpPaid, Amount: 5000, Paid: 5000, SessionID: "cs_1", Note: "Declined once.", CreatedAt: noon},
		Payment: &EventPayment{PaymentIntent: "pi_1", Amount: 5000, PaidAt: noon},
		Credit:  &EventCredit{TransactionID: "x1", Seq: 2, Description: "Card top-up", Amount: 5000, BalanceAfter: 61900, At: noon, Postings: []EventPosting{{"wallet/paid", 5000}, {"stripe_clearing", -5000}}},
		Refunds: []EventRefund{{ID: "re_1", Amount: 1000, Status: "succeeded", Counts: true, At: noon}, {ID: "re_2", Amount: 500, Status: "failed", At: noon}},
		Disputes: []EventDispute{
			{ID: "dp_1", Amount: 4000, Withdrawn: 4000, Status: "needs_response", Reason: "fraudulent", Open: true, Froze: true, At: noon},
			{ID: "dp_2", Amount: 4000, Withdrawn: 4000, Status: "lost", Reason: "fraudulent", At: noon},
			{ID: "dp_3", Amount: 4000, Status: "won", Reason: "", At: noon},
		},
		Reversals: []EventReversal{
			{TransactionID: "y1", Kind: "refund", Amount: 1000, BalanceAfter: 60900, Seq: 3, At: noon},
			{TransactionID: "y2", Kind: "dispute", Amount: -4000, Bonus: -100, BalanceAfter: 0, DebtAfter: 100, Seq: 4, At: noon},
		},
		History: []EventStep{{At: noon, Title: "Received and stored"}, {At: noon, Title: "Replayed", By: "operator@ringfence.example", Text: "why not"}},
		Payload: Payload{Text: "{}", JSON: true, Bytes: 2},
	}
}

// opsPagesInAllStates are the operators' pages in all their states, for what holds for every page.
func opsPagesInAllStates() map[string]templ.Component {
	all := map[string]templ.Component{}
	all["events"] = StripeEvents(eventsPage())
	all["no events"] = StripeEvents(EventsPage{Meta: operatorMeta("Stripe events", "/ops/stripe-events"), First: true})
	all["no comparison yet"] = StripeEvents(EventsPage{Meta: operatorMeta("Stripe events", "/ops/stripe-events"), First: true, Reconciliation: &Reconciliation{}})
	all["no such events"] = StripeEvents(EventsPage{Meta: operatorMeta("Stripe events", "/ops/stripe-events"), First: true, Filter: EventFilter{Text: "x"}})
	all["no older events"] = StripeEvents(EventsPage{Meta: operatorMeta("Stripe events", "/ops/stripe-events")})
	for _, s := range []EventState{EventQuarantined, EventFailed, EventReceived, EventProcessed, EventIgnored, "?"} {
		all["event "+string(s)] = StripeEventPage(eventPageOf(s))
	}
	bare := eventPageOf(EventQuarantined)
	bare.TopUp, bare.Payment, bare.Credit, bare.Payload, bare.Error = nil, nil, nil, Payload{Cut: true}, "Say why."
	bare.Refunds, bare.Disputes, bare.Reversals, bare.Fetched = nil, nil, nil, true
	all["event, bare and refused"] = StripeEventPage(bare)
	all["replay failed"] = ReplayFailed(ReplayPage{Meta: operatorMeta("Replay", "/ops/stripe-events/replay-failed"), Failed: EventCount{EventFailed, 3, false}, Limit: 5000})
	all["replay failed refused"] = ReplayFailed(ReplayPage{Meta: operatorMeta("Replay", "/ops/stripe-events/replay-failed"), Failed: EventCount{EventFailed, 1, false}, Reason: "x", ReasonError: "Say why.", ConfirmError: "Tick this."})
	all["replay failed, none"] = ReplayFailed(ReplayPage{Meta: operatorMeta("Replay", "/ops/stripe-events/replay-failed")})

	for name, c := range webhooks() {
		p := eventsPage()
		c.change(p.Webhook)
		all["webhook "+name] = StripeEvents(p)
	}
	unmoved := eventPageOf(EventProcessed)
	unmoved.Reversals = nil
	all["event with an inquiry"] = StripeEventPage(unmoved)

	h := eventsPage()
	h.Meta, h.Filter, h.Types, h.Older = hostileMeta(true), EventFilter{State: hostile, Type: hostile, Text: hostile}, []string{hostile}, hostile
	h.Reconciliation.Failed = hostile
	h.Events = []StripeEvent{{ID: hostile, Type: hostile, State: hostile, Reason: hostile, OrgName: hostile, TopUpID: hostile, PaymentIntent: hostile, ReceivedAt: noon}}
	all["hostile events"] = StripeEvents(h)
	e := eventPageOf(hostile)
	e.Meta, e.Event, e.Reason, e.Error = hostileMeta(true), h.Events[0], hostile, hostile
	e.TopUp.ID, e.TopUp.SessionID, e.TopUp.Note, e.Credit.Description, e.Credit.Postings[0].Account = hostile, hostile, hostile, hostile, hostile
	e.Refunds[0].ID, e.Refunds[0].Status, e.Disputes[0].ID, e.Disputes[0].Reason, e.Reversals[0].TransactionID, e.Reversals[0].Kind = hostile, hostile, hostile, hostile, hostile, hostile
	e.History, e.Payload = []EventStep{{At: noon, Title: hostile, By: hostile, Text: hostile}}, Payload{Text: hostile, Bytes: 1}
	all["hostile event"] = StripeEventPage(e)
	return all
}

// TestOperatorsPages holds for each of them what the other tests hold for every page.
func TestOperatorsPages(t *testing.T) {
	for name, page := range opsPagesInAllStates() {
		t.Run(name, func(t *testing.T) {
			doc := parse(t, page)
			if doc.Find("img").Length() != 0 || doc.Find("script:not([src])").Length() != 0 {
				t.Error("text was not escaped")
			}
			ids := map[string]int{}
			doc.Find("[id]").Each(func(_ int, s *goquery.Selection) { ids[s.AttrOr("id", "")]++ })
			for id, n := range ids {
				if n > 1 {
					t.Errorf("%d elements are called %q", n, id)
				}
			}
			for _, attr := range []string{"aria-describedby", "aria-labelledby"} {
				doc.Find("[" + attr + "]").Each(func(_ int, s *goquery.Selection) {
					for id := range strings.FieldsSeq(s.AttrOr(attr, "")) {
						if ids[id] == 0 {
							t.Errorf("%s names %q, which is not there", attr, id)
						}
					}
				})
			}
			doc.Find("input:not([type=hidden]), select").Each(func(_ int, s *goquery.Selection) {
				if id := s.AttrOr("id", ""); doc.Find(`label[for="`+id+`"]`).Length() != 1 {
					t.Errorf("the control %q has no label", id)
				}
			})
			doc.Find("a, button, summary").Each(func(_ int, s *goquery.Selection) {
				if words(s) == "" {
					t.Errorf("no words in a link to %s", s.AttrOr("href", ""))
				}
			})
			doc.Find("a").Each(func(_ int, s *goquery.Selection) {
				if href := s.AttrOr("href", ""); !strings.HasPrefix(href, "/") && href != "#main" {
					t.Errorf("a link leads to %q", href)
				}
			})
			// What changes something posts the token first; what only asks carries none into its address.
			doc.Find("form").Each(func(_ int, form *goquery.Selection) {
				first := form.Find("input").First()
				switch form.AttrOr("method", "") {
				case "post":
					if first.AttrOr("name", "") != "csrf_token" || first.AttrOr("value", "") != token {
						t.Errorf("the form to %s does not begin with the token", form.AttrOr("action", ""))
					}
				default:
					if form.Find(`[name="csrf_token"]`).Length() != 0 {
						t.Error("a form that asks would put the token into its address")
					}
				}
			})
			if doc.Find("h1").Length() != 1 || doc.Find("main#main").Length() != 1 {
				t.Error("not one title in one main region")
			}
		})
	}
}

func TestOperationsAreForOperators(t *testing.T) {
	labels := func(u User) string {
		m := meta("x", "/ops/stripe-events/evt_1")
		m.User = u
		var list []string
		for _, item := range nav(m) {
			if item.Current {
				list = append(list, "["+item.Label+"]")
			} else if item.Href != "/settings" {
				list = append(list, item.Label)
			}
		}
		return strings.Join(list, " ")
	}
	for want, u := range map[string]User{
		"Dashboard Wallet Numbers Agents Calls Messages Knowledge":                                                       {Email: "a", Role: "owner"},
		"Wallets Prices [Stripe events] Auto top-ups Integrity":                                                          {Email: "a", Operator: true},
		"Dashboard Wallet Numbers Agents Calls Messages Knowledge Wallets Prices [Stripe events] Auto top-ups Integrity": {Email: "a", Operator: true, Role: "viewer"},
	} {
		if got := labels(u); got != want {
			t.Errorf("%+v sees %q, want %q", u, got, want)
		}
	}
	doc := parse(t, StripeEvents(eventsPage()))
	if got := words(doc.Find(`nav[aria-label="Main"]`)); !strings.Contains(got, "Operations Wallets Prices Stripe events") {
		t.Errorf("the navigation says %q", got)
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Millisecond: "less than a second", 59*time.Second + time.Millisecond: "59 s", 90 * time.Second: "1 min", 125 * time.Minute: "2 h 5 min", 50 * time.Hour: "2 days",
	} {
		if got := age(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}
