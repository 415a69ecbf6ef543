package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"ringfence/db"
	"ringfence/handlers"
	"ringfence/internal/audit"
	"ringfence/internal/auth"
	"ringfence/internal/config"
	"ringfence/internal/fault"
	"ringfence/internal/knowledge"
	"ringfence/internal/money"
	"ringfence/internal/outgoing"
	"ringfence/internal/payments"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
)

const (
	// demoDays is how far back the demo's history reaches.
	demoDays = 60
	// demoGoodwill is the last line's amount: what is missing before it is paid by card.
	demoGoodwill money.Pence = 200
	// demoPatience bounds the wait for one answer of the sandbox's.
	demoPatience = time.Minute
)

// pastClock is the clock that the history is made by. It goes forward only.
type pastClock struct {
	mu  sync.Mutex
	now time.Time
}

// Now is the clock's time: a microsecond later at every look, as a clock that runs.
func (c *pastClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Microsecond)
	return c.now
}

// to moves it forward; a moment that is behind it changes nothing.
func (c *pastClock) to(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.now) {
		c.now = t
	}
}

// history makes the demo's two months. It is the program itself, with another clock, at a sandbox with the same clock:
// top-ups are paid at its Stripe, numbers bought at its Twilio and calls held by its Vapi, and what these tell comes in by the
// same handlers as ever. So the books of all of them agree, and every line can be explained.
type history struct {
	*app

	box   *sandbox.Server
	past  *pastClock
	until time.Time
	// last is the last day of the plan: today or, where an earlier run began it, the day that was last then.
	last  time.Time
	org   uuid.UUID
	user  uuid.UUID
	actor audit.Actor

	numbers []telephony.Number
	agents  []telephony.Agent
	// What an earlier run, which was killed, has already made.
	inbound, topUps int
}

// makeHistory makes the history of an organisation, as far as a killed run has not made it, so that demoGoodwill is missing to
// the balance at its end. made is false where the sandbox belongs to another process, whose clock is the machine's.
func (a *app) makeHistory(ctx context.Context, org uuid.UUID, balance money.Pence) (made bool, err error) {
	began := now()
	h := &history{org: org, until: began.UTC().Add(-time.Minute), past: &pastClock{now: began.AddDate(0, 0, -demoDays)}}
	h.last = h.until
	if err := h.open(ctx, a); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, h.db.Close()) }()
	stop, err := h.listen(ctx)
	if errors.Is(err, sandbox.ErrAlreadyRunning) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := h.play(ctx, balance); err != nil {
		return false, fmt.Errorf("couldn't make the demo's history: %w", err)
	}
	a.log.InfoContext(ctx, "the demo has a history", "took", now().Sub(began).Round(time.Millisecond).String())
	return true, nil
}

// open puts the program together a second time, over the same database, with the history's clock.
func (h *history) open(ctx context.Context, a *app) (err error) {
	h.app = &app{
		cfg: a.cfg, log: slog.New(slog.DiscardHandler), registry: prometheus.NewRegistry(), databaseURL: a.databaseURL, clock: h.past.Now,
		outgoing: outgoing.New(http.DefaultTransport, h.past.Now), // counted for nobody
	}
	if h.db, err = db.Open(ctx, a.databaseURL, db.Options{Now: h.past.Now, MaxConns: 4}); err != nil {
		return err
	}
	if err = h.assemble(); err == nil {
		err = h.resume(ctx)
	}
	if err != nil {
		return errors.Join(err, h.db.Close())
	}
	return nil
}

// resume finds out how far an earlier run came, and sets the clock behind all that it made.
func (h *history) resume(ctx context.Context) error {
	err := h.db.InSystemTx(ctx, "the demo's owner", func(ctx context.Context, tx *db.Tx) (err error) {
		h.user, err = auth.UserByEmail(ctx, tx, demoUsers[0].email)
		return err
	})
	if err != nil {
		return err
	}
	h.actor = audit.User(h.user)
	s, err := h.ledger.Statement(ctx, h.org, 1)
	if err != nil {
		return err
	}
	// Behind all that it made, and behind what the sandbox was still to tell.
	behind := func(t time.Time) {
		if t = t.Add(10 * time.Minute); t.After(h.until) {
			t = h.until
		}
		h.past.to(t)
	}
	if len(s.Lines) > 0 {
		behind(s.Lines[0].At)
	}
	welcomed, err := h.ledger.History(ctx, h.org, wallet.HistoryFilter{Sort: wallet.Sort(wallet.Bonus)}, wallet.HistoryPlace{}, 1)
	if err != nil {
		return err
	}
	for _, l := range welcomed.Lines {
		h.last = l.At.UTC().AddDate(0, 0, demoDays-1)
	}
	paid, err := h.ledger.History(ctx, h.org, wallet.HistoryFilter{Sort: wallet.Sort(wallet.TopUp)}, wallet.HistoryPlace{}, 100)
	if err != nil {
		return err
	}
	h.topUps = len(paid.Lines)
	calls, err := h.calls.List(ctx, h.org, uuid.Nil, 1000)
	if err != nil {
		return err
	}
	for _, c := range calls {
		behind(c.CreatedAt)
		if c.Direction == telephony.InboundCall {
			h.inbound++
		}
	}
	if h.numbers, err = h.app.numbers.List(ctx, h.org, uuid.Nil, 100); err != nil {
		return err
	}
	slices.Reverse(h.numbers)
	return nil
}

// listen starts the sandbox with the history's clock. What it tells goes to handlers of the history's own, whatever the
// address says: the server at that address has the machine's clock.
func (h *history) listen(ctx context.Context) (stop func() error, err error) {
	life, end := context.WithCancel(ctx)
	var seeded atomic.Bool
	site, err := h.handler(life, &seeded, nil)
	if err != nil {
		end()
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		end()
		return nil, fmt.Errorf("couldn't listen for the demo's history: %w", err)
	}
	failed := make(chan error, 1)
	stopSite := start(handlers.Server(l.Addr().String(), site), l, failed) //nolint:contextcheck // its end outlives what ended ctx
	o := sandboxOptions(h.cfg, h.log)
	o.Now, o.TwilioSettleAfter, o.CallSecond, o.SettleAfter = h.past.Now, -1, -1, -1
	o.Transport = &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != o.Addr { // its Twilio asks its Vapi what to do with a call
			addr = l.Addr().String()
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	if h.box, err = sandbox.Start(ctx, o); err != nil {
		end()
		return nil, errors.Join(err, stopSite())
	}
	return func() error {
		end()
		return errors.Join(h.box.Close(), stopSite())
	}, nil
}

// sandboxOptions are the sandbox's as the configuration describes it.
func sandboxOptions(cfg config.Config, log *slog.Logger) sandbox.Options {
	return sandbox.Options{
		Addr: cfg.SandboxAddr, StateFile: filepath.Join(cfg.DataDir, "sandbox.db"),
		TwilioAccountSID: cfg.TwilioAccountSID, TwilioAuthToken: cfg.TwilioAuthToken.Reveal(), TwilioNumbers: []string{cfg.TwilioFromNumber},
		TwilioSMSURL: cfg.BaseURL + "/api/webhooks/twilio/sms",
		MailAddr:     cfg.LocalMailAddr(),
		VapiAPIKey:   cfg.VapiAPIKey.Reveal(), VapiWebhookSecret: cfg.VapiWebhookSecret.Reveal(), VapiServerURL: cfg.BaseURL + "/api/webhooks/vapi",
		WebhookURL: cfg.BaseURL + "/api/webhooks/stripe", WebhookSecret: cfg.StripeWebhookSecrets[0].Reveal(),
		Logger: log,
	}
}

// play makes everything, in the order of time.
func (h *history) play(ctx context.Context, balance money.Pence) error {
	if err := h.leftBehind(ctx); err != nil {
		return err
	}
	for _, step := range h.plan() {
		if step.at.After(h.until.Add(-5 * time.Minute)) {
			continue
		}
		h.past.to(step.at)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	h.past.to(h.until.Add(-2 * time.Minute))
	if err := h.lastTopUp(ctx, balance); err != nil {
		return fmt.Errorf("the last top-up: %w", err)
	}
	if err := h.quiet(ctx); err != nil {
		return err
	}
	if err := h.notices.Work(ctx); err != nil {
		return err
	}
	_, err := h.ledger.AddUp(ctx)
	return err
}

// leftBehind ends the calls in which a killed run was.
func (h *history) leftBehind(ctx context.Context) error {
	calls, err := h.calls.List(ctx, h.org, uuid.Nil, 10)
	if err != nil {
		return err
	}
	for _, c := range calls {
		if c.Direction == telephony.InboundCall && !c.State.Ended() && c.VapiID.Valid {
			if err := h.talk(ctx, c, 0, 0, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// scene is one thing that happened.
type scene struct {
	at   time.Time
	name string
	do   func(ctx context.Context) error
}

// plan is what happened when. It is drawn by lot, always the same lot, so that a run that goes on has the same keys.
func (h *history) plan() (plan []scene) {
	lot := rand.New(rand.NewPCG(1957, 11)) //nolint:gosec // to look alive, not to be secret
	day := func(ago int, hour, minute int) time.Time {
		d := h.last.AddDate(0, 0, -ago)
		return time.Date(d.Year(), d.Month(), d.Day(), hour, minute, lot.IntN(60), 0, time.UTC)
	}
	add := func(at time.Time, name string, do func(ctx context.Context) error) {
		plan = append(plan, scene{at, name, do})
	}
	add(day(demoDays-1, 9, 2), "the welcome", h.welcome)
	add(day(demoDays-1, 9, 14), "the first top-up", h.topUp(1, "200.00", "gbp"))
	add(day(demoDays-1, 9, 31), "the first number", h.number(0))
	for i, d := range demoDocuments {
		add(day(demoDays-1-i*9, 10, 3), d.name, h.document(d.name, d.text))
	}
	add(day(demoDays-1, 10, 20), "the first agent", h.agent(0, 0))
	add(day(38, 11, 5), "the second number", h.number(1))
	add(day(38, 11, 16), "the second agent", h.agent(1, 1))
	add(day(34, 13, 40), "the second top-up", h.topUp(2, "250.00", "usd"))
	add(day(13, 15, 8), "a number on trial", h.number(2))
	add(day(8, 10, 44), "the third agent", h.agent(2, -1))
	add(day(6, 16, 21), "a number given back", h.giveBack(2))
	texts, calls, inbound := 0, 0, 0
	for ago := demoDays - 2; ago >= 0; ago-- {
		add(day(ago, 6, 0), "the rent", h.rent)
		if d := h.last.AddDate(0, 0, -ago).Weekday(); d == time.Saturday || d == time.Sunday {
			continue
		}
		for range 1 + lot.IntN(2) {
			add(day(ago, 8, 30+lot.IntN(25)), fmt.Sprint("text ", texts), h.text(texts, lot))
			texts++
		}
		add(day(ago, 9+lot.IntN(8), lot.IntN(60)), fmt.Sprint("call in ", inbound), h.callIn(inbound, 60+lot.Int64N(240), lot.IntN(3) == 0))
		inbound++
		if ago < 36 && lot.IntN(3) > 0 {
			add(day(ago, 11+lot.IntN(5), lot.IntN(60)), fmt.Sprint("call ", calls), h.callOut(calls, 30+lot.Int64N(120), lot.IntN(7) == 0))
			calls++
		}
	}
	// The last hour, whatever time of day it is, so that today is not empty.
	for i, ago := range []time.Duration{52 * time.Minute, 33 * time.Minute, 19 * time.Minute} {
		add(h.until.Add(-ago), fmt.Sprint("text ", texts), h.text(texts, lot))
		texts++
		if i < 2 {
			add(h.until.Add(6*time.Minute-ago), fmt.Sprint("call in ", inbound), h.callIn(inbound, 70+lot.Int64N(90), true))
			inbound++
		}
	}
	slices.SortStableFunc(plan, func(x, y scene) int { return x.at.Compare(y.at) })
	return plan
}

// welcome is the bonus that the history begins with.
func (h *history) welcome(ctx context.Context) error {
	return h.db.InTx(ctx, []uuid.UUID{h.org}, func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
			OrgID: h.org, Kind: wallet.Bonus, Amount: 500, Reason: "Welcome to Ringfence", Reference: demoBegun, Actor: audit.System("seed"),
		})
		return err
	})
}

// topUp pays the n-th top-up.
func (h *history) topUp(n int, amount, currency string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		if h.topUps >= n {
			return nil
		}
		return h.pay(ctx, amount, currency)
	}
}

// lastTopUp pays what is missing, but for the goodwill.
func (h *history) lastTopUp(ctx context.Context, balance money.Pence) error {
	b, _, err := h.ledger.Overview(ctx, h.org, 0)
	if err != nil {
		return err
	}
	least, most := h.payments.Limits()
	missing := balance - demoGoodwill - b.Balance
	if missing < least || missing > most {
		return nil // paid already, or what the prices of this database leave to be adjusted
	}
	return h.pay(ctx, missing.Decimal(), "gbp")
}

// pay tops up as a browser does: by Stripe's page, and what its webhooks tell.
func (h *history) pay(ctx context.Context, amount, currency string) error {
	t, err := h.payments.StartTopUp(ctx, h.org, h.user, amount, currency)
	if err != nil {
		return err
	}
	h.past.to(h.past.Now().Add(40 * time.Second))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.CheckoutURL+"/pay", http.NoBody)
	if err != nil {
		return fmt.Errorf("couldn't ask for the payment: %w", err)
	}
	browser := &http.Client{Timeout: demoPatience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := browser.Do(req)
	if err != nil {
		return fmt.Errorf("couldn't pay: %w", err)
	}
	_, err = io.Copy(io.Discard, res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return fmt.Errorf("couldn't read what paying said: %w", err)
	}
	if res.StatusCode != http.StatusSeeOther {
		return fmt.Errorf("paying was answered %s", res.Status)
	}
	return h.await(ctx, "the payment's events", func() (bool, error) {
		if err := h.work(ctx); err != nil {
			return false, err
		}
		t, err = h.payments.TopUp(ctx, h.org, t.ID)
		return t.State == payments.Paid && h.box.Stripe().Books().Undelivered == 0, err
	})
}

// work works the events that have come, as the jobs do.
func (h *history) work(ctx context.Context) error {
	page, err := h.payments.Events(ctx, payments.EventFilter{State: payments.EventReceived}, payments.EventCursor{})
	if err != nil || len(page.Events) == 0 {
		return err
	}
	var job payments.EventBatch
	for _, e := range page.Events {
		job.Strays = append(job.Strays, e.ID)
	}
	return h.payments.Process(ctx, job)
}

// number buys the i-th number.
func (h *history) number(i int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		if i >= len(h.numbers) {
			offers, err := h.app.numbers.Search(ctx, telephony.SearchRequest{OrgID: h.org, Country: "US", Area: demoArea})
			if err != nil {
				return err
			}
			at := slices.IndexFunc(offers.List, func(o telephony.Offer) bool { return o.Voice && o.SMS && o.Needs == "" })
			if at < 0 {
				return errors.New("the sandbox has no number for sale")
			}
			n, err := h.app.numbers.Buy(ctx, telephony.BuyRequest{
				OrgID: h.org, PhoneNumber: offers.List[at].PhoneNumber, Key: fmt.Sprint("demo-number-", i), Actor: h.actor,
			})
			if err != nil {
				return err
			}
			h.numbers = append(h.numbers, n)
		}
		return h.advance(ctx, i)
	}
}

// demoArea is where the demo's numbers are.
const demoArea = "617"

// advance brings a number to where nothing is left to be done, as the jobs do.
func (h *history) advance(ctx context.Context, i int) (err error) {
	n := &h.numbers[i]
	for range 50 {
		if *n, err = h.app.numbers.Number(ctx, h.org, n.ID); err != nil || n.Step == "" {
			return err
		}
		h.past.to(h.past.Now().Add(time.Second))
		if n.NextAt != nil {
			h.past.to(*n.NextAt)
		}
		if n.BusyUntil != nil { // in hand of a run that was killed
			h.past.to(*n.BusyUntil)
		}
		if err := h.app.numbers.Advance(ctx, h.org, n.ID); err != nil {
			return err
		}
	}
	return fmt.Errorf("number %s stays at %s: %s", n.PhoneNumber, n.Step, n.Note)
}

// giveBack releases the i-th number.
func (h *history) giveBack(i int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		if h.numbers[i].State == telephony.NumberReleased {
			return nil
		}
		if _, err := h.app.numbers.Release(ctx, telephony.ReleaseRequest{OrgID: h.org, Number: h.numbers[i].ID, Actor: h.actor, Reason: "The trial is over"}); err != nil {
			return err
		}
		return h.advance(ctx, i)
	}
}

// rent charges what is due, and tells what is to be told.
func (h *history) rent(ctx context.Context) error {
	if _, err := h.app.numbers.SweepRents(ctx); err != nil {
		return err
	}
	return h.notices.Work(ctx)
}

// document keeps something in the knowledge base.
func (h *history) document(name, text string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		_, _, err := h.knowledge.Upload(ctx, knowledge.File{OrgID: h.org, UserID: h.user, Actor: h.actor, Name: name, Content: []byte(text)})
		return err
	}
}

// agent makes the i-th agent, which answers a number; -1 is none.
func (h *history) agent(i, number int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		a, err := h.app.agents.Create(ctx, telephony.AgentRequest{OrgID: h.org, AgentFields: demoAgents[i], Key: fmt.Sprint("demo-agent-", i), Actor: h.actor})
		if err != nil {
			return err
		}
		if number >= 0 && !a.NumberID.Valid {
			if _, err := h.app.agents.Link(ctx, h.org, a.ID, h.numbers[number].ID, h.actor); err != nil {
				return err
			}
		}
		if a.BusyUntil != nil {
			h.past.to(*a.BusyUntil)
		}
		if err := h.app.agents.Sync(ctx, h.org, a.ID); err != nil {
			return err
		}
		if a, err = h.app.agents.Agent(ctx, h.org, a.ID); err == nil && a.Sync != telephony.Synced {
			err = fmt.Errorf("agent %s is %s: %s", a.Name, a.Sync, a.Note)
		}
		h.agents = append(h.agents, a)
		return err
	}
}

// text sends the n-th text.
func (h *history) text(n int, lot *rand.Rand) func(ctx context.Context) error {
	who := demoPatients[lot.IntN(len(demoPatients))]
	body := demoTexts[lot.IntN(len(demoTexts))]
	slot := fmt.Sprintf("%d:%02d", 9+lot.IntN(8), 10*lot.IntN(6))
	outcome := "delivered"
	if lot.IntN(25) == 0 {
		outcome = "undelivered"
	}
	return func(ctx context.Context) error {
		m, err := h.messages.Send(ctx, telephony.SendRequest{
			OrgID: h.org, From: h.numbers[0].PhoneNumber, To: who.number, Body: fmt.Sprintf(body, who.name, slot), Key: fmt.Sprint("demo-text-", n), Actor: h.actor,
		})
		if err != nil {
			return err
		}
		if m.EndedAt != nil {
			return nil
		}
		if err := h.box.Twilio().Mark(m.SID.String, outcome, 0); err != nil && !ended(err) {
			return fmt.Errorf("couldn't end the text: %w", err)
		}
		return h.await(ctx, "what became of the text", func() (bool, error) {
			m, err = h.messages.Message(ctx, h.org, m.ID)
			return m.EndedAt != nil, err
		})
	}
}

// ended reports whether the sandbox refused to end what has ended.
func ended(err error) bool {
	return strings.Contains(err.Error(), "ended") || strings.Contains(err.Error(), "nothing")
}

// callIn has a patient call the first number, and ask something where asks is set.
func (h *history) callIn(n int, seconds int64, asks bool) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		if n < h.inbound {
			return nil
		}
		if err := h.box.Twilio().Script(sandbox.CallScript{Talk: -1, Times: -1}); err != nil {
			return fmt.Errorf("couldn't write the call's script: %w", err)
		}
		if _, err := h.box.Twilio().Ring(demoPatients[n%len(demoPatients)].number, h.numbers[0].PhoneNumber); err != nil {
			return fmt.Errorf("couldn't ring: %w", err)
		}
		var c telephony.Call
		err := h.await(ctx, "the call to be answered", func() (bool, error) {
			list, err := h.calls.List(ctx, h.org, uuid.Nil, 1)
			if err != nil || len(list) == 0 {
				return false, err
			}
			c = list[0]
			if c.Direction == telephony.InboundCall && c.State.Ended() && c.CreatedAt.After(h.past.Now().Add(-time.Minute)) {
				return false, fmt.Errorf("the call was not taken: %s (%s)", c.State, c.Note)
			}
			return c.Direction == telephony.InboundCall && c.State == telephony.CallInProgress, nil
		})
		if err != nil {
			return err
		}
		return h.talk(ctx, c, seconds, n, asks)
	}
}

// callOut has the second agent call a patient, who may not answer.
func (h *history) callOut(n int, seconds int64, missed bool) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		script := sandbox.CallScript{Talk: -1, Times: -1}
		if missed {
			script.Does = sandbox.DoesNotAnswer
		}
		if err := h.box.Twilio().Script(script); err != nil {
			return fmt.Errorf("couldn't write the call's script: %w", err)
		}
		c, err := h.calls.Place(ctx, telephony.PlaceRequest{
			OrgID: h.org, To: demoPatients[(n*5+2)%len(demoPatients)].number, Agent: h.agents[1].ID, Key: fmt.Sprint("demo-call-", n), Actor: h.actor,
		})
		if err != nil {
			return err
		}
		// It rings, and then somebody answers or nobody does: each is told.
		for told := 1; told <= 2 && !c.State.Ended() && c.State != telephony.CallInProgress; told++ {
			if err := h.box.Vapi().Advance(c.VapiID.String); err != nil && !ended(err) {
				return fmt.Errorf("couldn't bring the call on: %w", err)
			}
			h.past.to(h.past.Now().Add(5 * time.Second))
			err := h.await(ctx, "the call to go on", func() (bool, error) {
				messages := h.box.Vapi().Messages(c.VapiID.String)
				return len(messages) >= told && !slices.ContainsFunc(messages, func(m sandbox.Callback) bool { return m.State == "pending" }), nil
			})
			if err != nil {
				return err
			}
			if c, err = h.calls.Call(ctx, h.org, c.ID); err != nil {
				return err
			}
		}
		if missed {
			return h.await(ctx, "the call to end", func() (bool, error) {
				c, err = h.calls.Call(ctx, h.org, c.ID)
				return c.State.Ended(), err
			})
		}
		if c.State.Ended() {
			return nil
		}
		return h.talk(ctx, c, seconds, n, false)
	}
}

// talk lets a call last so long, and ends it.
func (h *history) talk(ctx context.Context, c telephony.Call, seconds int64, n int, asks bool) (err error) {
	if asks && c.State == telephony.CallInProgress {
		if err := h.box.Vapi().UseTool(c.VapiID.String, "search_knowledge", map[string]any{"query": demoQuestions[n%len(demoQuestions)]}); err != nil {
			return fmt.Errorf("couldn't ask in the call: %w", err)
		}
		was := c.Lookups
		err := h.await(ctx, "the answer to a question", func() (bool, error) {
			c, err = h.calls.Call(ctx, h.org, c.ID)
			return c.Lookups > was, err
		})
		if err != nil {
			return err
		}
	}
	// What a call is paid for ahead grows while it lasts.
	for left := seconds; left > 0; left -= 20 {
		h.past.to(h.past.Now().Add(time.Duration(min(left, 20)) * time.Second))
		if c.FundAt != nil && !h.past.Now().Before(*c.FundAt) {
			if _, err := h.calls.Sweep(ctx); err != nil {
				return err
			}
			if c, err = h.calls.Call(ctx, h.org, c.ID); err != nil {
				return err
			}
		}
	}
	if err := h.box.Vapi().HangUp(c.VapiID.String); err != nil && !ended(err) {
		return fmt.Errorf("couldn't hang up: %w", err)
	}
	return h.await(ctx, "the call to end", func() (bool, error) {
		c, err = h.calls.Call(ctx, h.org, c.ID)
		return c.State.Ended(), err
	})
}

// quiet waits until nothing of money is on its way any more, and works what came. (Vapi's calls have ended by then, and that
// one rings before we are asked who takes it is told to nobody.)
func (h *history) quiet(ctx context.Context) error {
	return h.await(ctx, "the sandbox to have told everything", func() (bool, error) {
		if err := h.work(ctx); err != nil {
			return false, err
		}
		page, err := h.payments.Events(ctx, payments.EventFilter{State: payments.EventReceived}, payments.EventCursor{})
		return err == nil && len(page.Events) == 0 && h.box.Stripe().Books().Undelivered == 0 && h.box.Twilio().Books().Undelivered == 0, err
	})
}

// await asks until something is so.
func (h *history) await(ctx context.Context, what string, so func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	pause := time.NewTicker(2 * time.Millisecond)
	defer pause.Stop()
	for {
		ok, err := so()
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited too long for %s", what)
		case <-pause.C:
		}
	}
}
