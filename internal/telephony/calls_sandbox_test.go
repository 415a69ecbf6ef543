package telephony_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/sandbox"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
	"ringfence/jobs"
)

// TestCallsAtSandbox: the whole way over HTTP, with the sandbox's Twilio and Vapi in the vendors' places: a number is bought, an
// agent made, a call placed and one taken; what they say to each other on the wire is what both understand.
func TestCallsAtSandbox(t *testing.T) {
	s := newShop(t)
	heardOf := make(chan string, 100)
	var calls *telephony.Calls
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != telephony.WebhookPath || !calls.Genuine(r.Header.Get("Authorization")) {
			http.Error(w, "not Vapi", http.StatusUnauthorized)
			return
		}
		answer, err := calls.FromVapi(r.Context(), body)
		switch {
		case fault.Is(err, fault.NotFound): // a call that comes in rings while we are asked who takes it
			http.Error(w, err.Error(), http.StatusNotFound)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		default:
			_ = json.NewEncoder(w).Encode(answer)
		}
		var m struct {
			Message struct{ Type, Status string }
		}
		_ = json.Unmarshal(body, &m)
		heardOf <- strings.TrimSpace(m.Message.Type + " " + m.Message.Status)
	}))
	t.Cleanup(srv.Close)
	log := slog.New(slog.NewTextHandler(s.log, nil))
	inserter, err := jobs.NewInserter(s.db, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	gates := wallet.NewGates(wallet.GateOptions{DB: s.db, Now: s.clock.Now, Log: log})
	events := telephony.VapiEvents{BaseURL: srv.URL, Secret: vapiKey}
	s.Numbers, err = telephony.NewNumbers(telephony.NumbersOptions{
		DB: s.db, Gates: gates, Jobs: inserter, Vault: s.vault, Log: log, Now: s.clock.Now, AccountSID: account, AuthToken: token, TwilioBase: s.box.URL(),
		VapiKey: vapiKey, VapiBase: s.box.URL() + "/vapi", BaseURL: srv.URL, Events: events,
	})
	if err != nil {
		t.Fatal(err)
	}
	number := s.have(s.choose(1)[0], "number")
	agents, err := telephony.NewAgents(telephony.AgentsOptions{
		DB: s.db, Gates: gates, Jobs: inserter, Log: slog.New(slog.DiscardHandler), Now: s.clock.Now, VapiKey: vapiKey, VapiBase: s.box.URL() + "/vapi", Events: events,
		Vault: s.vault, TwilioBase: s.box.URL(),
	})
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan telephony.Lookup, 1)
	calls, err = telephony.NewCalls(telephony.CallsOptions{
		DB: s.db, Gates: gates, Log: slog.New(slog.DiscardHandler), Now: s.clock.Now, VapiKey: vapiKey, VapiBase: s.box.URL() + "/vapi", Events: events,
		Vault: s.vault, TwilioBase: s.box.URL(),
		Knowledge: func(_ context.Context, l telephony.Lookup) (telephony.Found, error) {
			asked <- l
			return telephony.Found{Passages: []string{"Open on Saturdays."}, Amount: 1}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	f := fields()
	f.Knowledge, f.ForwardTo, f.Recorded, f.Consent = true, handset, true, "This call is recorded."
	a, err := agents.Create(t.Context(), telephony.AgentRequest{OrgID: s.org, AgentFields: f, Actor: audit.System("test")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := agents.Link(t.Context(), s.org, a.ID, number.ID, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	if err := agents.Sync(t.Context(), s.org, a.ID); err != nil {
		t.Fatal(err)
	}
	if a, err = agents.Agent(t.Context(), s.org, a.ID); err != nil || a.Sync != telephony.Synced || len(s.vapi.Books().Assistants) != 1 {
		t.Fatalf("the agent is %s (%s), %v", a.Sync, a.Note, err)
	}
	next := func(want string) {
		t.Helper()
		select {
		case got := <-heardOf:
			if got != want {
				t.Fatalf("Vapi said %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("Vapi did not say %q", want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	state := func(c telephony.Call, want telephony.CallState) telephony.Call {
		t.Helper()
		got, err := calls.Call(t.Context(), s.org, c.ID)
		if err != nil || got.State != want {
			t.Fatalf("the call is %s (%s), %v; want %s", got.State, got.EndedReason, err, want)
		}
		return got
	}
	must(s.twilio.Script(sandbox.CallScript{Talk: -1, Times: -1}))
	s.wantWallet(s.org, 20_00, 0, 0)
	c, err := calls.Place(t.Context(), telephony.PlaceRequest{OrgID: s.org, To: handset, Key: "k", Actor: audit.System("test")})
	if err != nil || !c.VapiID.Valid {
		t.Fatalf("%+v, %v", c, err)
	}
	id := c.VapiID.String
	must(s.vapi.Advance(id))
	next("status-update ringing")
	must(s.vapi.Advance(id))
	next("status-update in-progress")
	state(c, telephony.CallInProgress)
	must(s.vapi.UseTool(id, "search_knowledge", map[string]any{"query": "saturdays"}))
	next("tool-calls")
	if l := <-asked; l.Query != "saturdays" || l.OrgID != s.org {
		t.Errorf("looked up %+v", l)
	}
	s.clock.Advance(91 * time.Second)
	must(s.vapi.HangUp(id))
	next("status-update ended")
	next("end-of-call-report")
	got := state(c, telephony.CallCompleted)
	if got.Seconds != 91 || got.Amount != 84 || !strings.HasPrefix(got.Transcript, "AI: This call is recorded. Harbour Dental") || !got.CostMicros.Valid || got.EndedReason != "customer-ended-call" || got.Lookups != 1 {
		t.Errorf("%+v", got)
	}
	s.wantWallet(s.org, 19_16, 0, 0)

	// One that comes in, and that we end.
	if _, err := s.twilio.Ring(handset, number.PhoneNumber); err != nil {
		t.Fatal(err)
	}
	for heard := map[string]bool{}; len(heard) < 2; { // it rings while we are asked
		select {
		case what := <-heardOf:
			heard[what] = true
		case <-time.After(10 * time.Second):
			t.Fatalf("of a call that comes in Vapi said %v", heard)
		}
	}
	list, err := calls.List(t.Context(), s.org, uuid.Nil, 1)
	if err != nil || len(list) != 1 || list[0].Direction != telephony.InboundCall || list[0].AgentID.UUID != a.ID {
		t.Fatalf("%+v, %v", list, err)
	}
	in := list[0]
	next("status-update in-progress")
	s.clock.Advance(30 * time.Second)
	if _, err := calls.Hangup(t.Context(), s.org, in.ID, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	next("status-update ended")
	next("end-of-call-report")
	if got := state(in, telephony.CallCompleted); got.Seconds != 30 || got.Amount != 28 || got.HangupWhy != telephony.HangupAsked {
		t.Errorf("%+v", got)
	}
	s.wantWallet(s.org, 18_88, 0, 0)

	// What is erased here Vapi forgets; a deleted agent's assistant goes.
	s.clock.Advance(100 * 24 * time.Hour)
	if n, err := calls.Erase(t.Context()); err != nil || n != 2 {
		t.Errorf("%d calls were erased, %v", n, err)
	}
	for _, b := range s.vapi.Books().Calls {
		if !b.Deleted {
			t.Errorf("Vapi still has call %s", b.ID)
		}
	}
	must(agents.Delete(t.Context(), s.org, a.ID, true, audit.System("test")))
	must(agents.Sync(t.Context(), s.org, a.ID))
	if b := s.vapi.Books().Assistants; len(b) != 1 || b[0].Deleted.IsZero() {
		t.Errorf("Vapi has %+v", b)
	}
}
