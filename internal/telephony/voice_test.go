package telephony_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
	"ringfence/jobs"
)

const (
	vapiSecret = "what-vapi-shows-0123456789"
	// premium is a number that calls are not offered to.
	premium = "+18765551234"
)

// line is Vapi on the wire, as strict as it: assistants and calls that a test moves by hand, and mishaps on demand. It is also
// Twilio where a call is ended or a number proven.
type line struct {
	t      *testing.T
	server *httptest.Server
	now    func() time.Time

	mu         sync.Mutex
	assistants map[string]map[string]any
	made       []*lineCall
	// asked counts the requests by method and path, ids left out.
	asked map[string]int
	// mishaps strike in order.
	mishaps []mishap
	ended   []string // Twilio's names of calls that were ended there
	erased  []string // calls that were forgotten
}

// mishap is something that goes wrong with a request: "POST /call", "GET /assistant/*" …
type mishap struct {
	what string
	// do is cut (the connection, before acting), hang (until the caller gives up), cut_after, hang_after, 500, 500_after, garbage,
	// or a status that refuses in Vapi's words.
	do    string
	times int // 0: once, -1: always
}

// lineCall is a call at Vapi.
type lineCall struct {
	ID, Name, Status, Reason, Assistant, Phone, Customer string
	Max                                                  int64
	Overrides                                            map[string]any
	Created                                              time.Time
	Started, Ended                                       *time.Time
	Transcript, Recording                                string
	Cost                                                 string
	// Hungup counts commands to end it; Stubborn has them fail, Deaf has them do nothing.
	Hungup         int
	Stubborn, Deaf bool
	Gone           bool
}

func newLine(t *testing.T, now func() time.Time) *line {
	t.Helper()
	l := &line{t: t, now: now, assistants: map[string]map[string]any{}, asked: map[string]int{}}
	l.server = httptest.NewServer(l)
	t.Cleanup(l.server.Close)
	return l
}

func (l *line) mishap(m ...mishap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mishaps = m
}

// strike is the mishap of a request, if any.
func (l *line) strike(what string) string {
	for i := range l.mishaps {
		m := &l.mishaps[i]
		if m.what != what {
			continue
		}
		if m.times >= 0 {
			if m.times--; m.times < 0 {
				do := m.do
				l.mishaps = slices.Delete(l.mishaps, i, i+1)
				return do
			}
		}
		return m.do
	}
	return ""
}

func refuse(w http.ResponseWriter, status int, words string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"message": words, "error": http.StatusText(status), "statusCode": status})
}

// ServeHTTP implements http.Handler.
func (l *line) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	l.mu.Lock()
	defer l.mu.Unlock()
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	what := r.Method + " /" + parts[0]
	if len(parts) > 1 {
		what += "/*"
	}
	switch parts[0] {
	case "control":
		l.control(w, parts[1], body)
		return
	case "2010-04-01":
		l.twilio(w, r)
		return
	}
	l.asked[what]++
	if r.Header.Get("Authorization") != "Bearer "+vapiKey {
		refuse(w, http.StatusUnauthorized, "Invalid Key.")
		return
	}
	do := l.strike(what)
	after, acts := strings.CutSuffix(do, "_after")
	var status int
	if _, err := fmt.Sscanf(do, "%d", &status); err == nil && !acts {
		if status == http.StatusConflict {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"error":"assistant_pinned","message":"in use"}`)
			return
		}
		refuse(w, status, "no")
		return
	}
	switch do {
	case "cut":
		panic(http.ErrAbortHandler)
	case "hang":
		<-r.Context().Done()
		return
	case "garbage":
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "<html>")
		return
	}
	rec := httptest.NewRecorder()
	l.act(rec, r, parts, body)
	switch {
	case acts && after == "cut":
		panic(http.ErrAbortHandler)
	case acts && after == "hang":
		<-r.Context().Done()
		return
	case acts:
		refuse(w, http.StatusInternalServerError, "Internal server error")
		return
	}
	maps.Copy(w.Header(), rec.Header())
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

// act does what is asked, as Vapi does: what it does not know it refuses.
func (l *line) act(w http.ResponseWriter, r *http.Request, parts []string, body []byte) {
	var sent map[string]any
	if len(body) > 0 {
		if err := json.Unmarshal(body, &sent); err != nil {
			refuse(w, http.StatusBadRequest, "not JSON")
			return
		}
	}
	id := ""
	if len(parts) > 1 {
		id = parts[1]
	}
	switch r.Method + " /" + parts[0] {
	case "POST /assistant":
		id = uuid.NewString()
		l.assistants[id] = sent
		reply(w, http.StatusCreated, withID(sent, id))
	case "GET /assistant":
		var list []any
		for id, a := range l.assistants {
			list = append(list, withID(a, id))
		}
		reply(w, http.StatusOK, list)
	case "PATCH /assistant", "DELETE /assistant":
		a, ok := l.assistants[id]
		if !ok {
			refuse(w, http.StatusNotFound, "no such assistant")
			return
		}
		if r.Method == http.MethodDelete {
			delete(l.assistants, id)
		} else {
			maps.Copy(a, sent)
		}
		reply(w, http.StatusOK, withID(a, id))
	case "POST /call":
		l.make(w, sent)
	case "GET /call":
		if id == "" {
			l.list(w, r)
			return
		}
		if c := l.find(id); c != nil && !c.Gone {
			reply(w, http.StatusOK, l.view(c))
			return
		}
		refuse(w, http.StatusNotFound, "no such call")
	case "DELETE /call":
		c := l.find(id)
		if c == nil {
			refuse(w, http.StatusNotFound, "no such call")
			return
		}
		l.erased = append(l.erased, id)
		reply(w, http.StatusOK, l.view(c))
	default:
		refuse(w, http.StatusNotFound, "Cannot "+r.Method+" "+r.URL.Path)
	}
}

func withID(a map[string]any, id string) map[string]any {
	b := maps.Clone(a)
	b["id"] = id
	return b
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (l *line) make(w http.ResponseWriter, sent map[string]any) {
	for name := range sent {
		if !slices.Contains([]string{"name", "assistantId", "phoneNumberId", "customer", "assistantOverrides"}, name) {
			refuse(w, http.StatusBadRequest, "property "+name+" should not exist")
			return
		}
	}
	overrides, _ := sent["assistantOverrides"].(map[string]any)
	customer, _ := sent["customer"].(map[string]any)
	seconds, _ := overrides["maxDurationSeconds"].(float64)
	name, _ := sent["name"].(string)
	assistant, _ := sent["assistantId"].(string)
	phone, _ := sent["phoneNumberId"].(string)
	number, _ := customer["number"].(string)
	if seconds < 10 || seconds > 43_200 || len(name) > 40 || l.assistants[assistant] == nil || !strings.HasPrefix(number, "+") {
		refuse(w, http.StatusBadRequest, "not valid")
		return
	}
	c := &lineCall{ID: uuid.NewString(), Name: name, Status: "queued", Assistant: assistant, Phone: phone, Customer: number, Max: int64(seconds), Overrides: overrides, Created: l.now()}
	l.made = append(l.made, c)
	reply(w, http.StatusCreated, l.view(c))
}

func (l *line) list(w http.ResponseWriter, r *http.Request) {
	since, err := time.Parse(time.RFC3339, r.URL.Query().Get("createdAtGe"))
	if err != nil {
		refuse(w, http.StatusBadRequest, "createdAtGe must be a date")
		return
	}
	until, err := time.Parse(time.RFC3339, r.URL.Query().Get("createdAtLe"))
	if err != nil && r.URL.Query().Has("createdAtLe") {
		refuse(w, http.StatusBadRequest, "createdAtLe must be a date")
		return
	}
	list := []any{}
	for _, c := range slices.Backward(l.made) {
		if phone := r.URL.Query().Get("phoneNumberId"); !c.Gone && !c.Created.Before(since) && (until.IsZero() || !c.Created.After(until)) && (phone == "" || phone == c.Phone) {
			list = append(list, l.view(c))
		}
	}
	reply(w, http.StatusOK, list)
}

func (l *line) find(id string) *lineCall {
	for _, c := range l.made {
		if c.ID == id {
			return c
		}
	}
	return nil
}

func stamp(t *time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// view is a call as Vapi shows it.
func (l *line) view(c *lineCall) map[string]any {
	v := map[string]any{
		"id": c.ID, "type": "outboundPhoneCall", "status": c.Status, "assistantId": c.Assistant, "phoneNumberId": c.Phone, "orgId": "o",
		"customer": map[string]any{"number": c.Customer}, "phoneCallProviderId": "CA" + strings.ReplaceAll(c.ID, "-", ""),
		"monitor": map[string]any{"controlUrl": l.server.URL + "/control/" + c.ID}, "createdAt": stamp(&c.Created), "updatedAt": stamp(&c.Created),
	}
	if c.Name != "" {
		v["name"] = c.Name
	}
	if c.Reason != "" {
		v["endedReason"] = c.Reason
	}
	if c.Started != nil {
		v["startedAt"] = stamp(c.Started)
	}
	if c.Ended != nil {
		v["endedAt"] = stamp(c.Ended)
		v["artifact"] = map[string]any{"transcript": c.Transcript, "recordingUrl": c.Recording}
		v["cost"] = json.Number(c.Cost)
	}
	return v
}

// control ends a live call.
func (l *line) control(w http.ResponseWriter, id string, body []byte) {
	c := l.find(id)
	if c == nil || string(body) != `{"type":"end-call"}` {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	c.Hungup++
	if c.Stubborn {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if !c.Deaf {
		l.endLocked(c, "manually-canceled", l.now())
	}
	w.WriteHeader(http.StatusOK)
}

// twilio ends calls.
func (l *line) twilio(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.TrimSuffix(r.URL.Path, ".json"), "/")
	sid := parts[len(parts)-1]
	l.ended = append(l.ended, sid)
	for _, c := range l.made {
		if "CA"+strings.ReplaceAll(c.ID, "-", "") == sid {
			l.endLocked(c, "manually-canceled", l.now())
		}
	}
	reply(w, http.StatusOK, map[string]any{"sid": sid, "status": "completed"})
}

func (l *line) endLocked(c *lineCall, reason string, at time.Time) {
	if c.Status == "ended" {
		return
	}
	c.Status, c.Reason, c.Ended, c.Cost = "ended", reason, &at, "0.1234"
	if c.Started != nil {
		c.Transcript, c.Recording = "AI: Hello. User: Hello.", "https://storage.vapi.ai/"+c.ID+".wav"
	}
}

// answer has somebody pick up.
func (l *line) answer(c *lineCall) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.now()
	c.Status, c.Started = "in-progress", &at
}

// end ends a call now.
func (l *line) end(c *lineCall, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLocked(c, reason, l.now())
}

// incoming is a call that comes in at a number.
func (l *line) incoming(phone, from string) *lineCall {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &lineCall{ID: uuid.NewString(), Status: "ringing", Phone: phone, Customer: from, Created: l.now()}
	l.made = append(l.made, c)
	return c
}

// news is a message about a call, as Vapi posts it.
func (l *line) news(c *lineCall, kind, status string) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := map[string]any{"type": kind, "call": l.view(c), "timestamp": l.now().UnixMilli()}
	call, _ := m["call"].(map[string]any)
	delete(call, "artifact") // of the call itself a message has less
	delete(call, "startedAt")
	delete(call, "endedAt")
	delete(call, "cost")
	delete(call, "monitor")
	switch kind {
	case "status-update":
		m["status"] = status
		call["status"] = status
		delete(call, "endedReason")
		if status == "ended" {
			m["endedReason"] = c.Reason
		}
	case "end-of-call-report":
		m["endedReason"] = c.Reason
		if c.Started != nil {
			m["startedAt"] = stamp(c.Started)
		}
		if c.Ended != nil {
			m["endedAt"] = stamp(c.Ended)
		}
		m["artifact"] = map[string]any{"transcript": c.Transcript, "recordingUrl": c.Recording}
		m["cost"] = json.Number(c.Cost)
	case "assistant-request":
		m["phoneNumber"] = map[string]any{"id": c.Phone}
		m["customer"] = map[string]any{"number": c.Customer}
	}
	b, err := json.Marshal(map[string]any{"message": m})
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

func (l *line) calls() []*lineCall {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.made)
}

func (l *line) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked[what]
}

// phones is agents and calls over a database and a line, on one clock that is moved by hand.
type phones struct {
	*telephony.Calls

	t          *testing.T
	agents     *telephony.Agents
	db         *db.DB
	dbURL      string
	clock      *dbtest.Clock
	gates      *wallet.Gates
	line       *line
	vault      *telephony.Vault
	org, other uuid.UUID
	number     telephony.Number // of org, active
	theirs     telephony.Number // of other
	agent      telephony.Agent  // of org, linked to number, at Vapi
	log        *strings.Builder
	found      telephony.Found // what the knowledge base has
	lookups    []telephony.Lookup
	lookupErr  error
}

func newPhones(t *testing.T) *phones {
	t.Helper()
	p := &phones{t: t, clock: &dbtest.Clock{}, dbURL: dbtest.URL(t), log: &strings.Builder{}}
	p.db = dbtest.OpenURL(t, p.dbURL, p.clock.Now)
	err := p.db.InSystemTx(t.Context(), "a test's exchange rate", func(ctx context.Context, tx *db.Tx) error {
		rate, err := money.ParseRate("0.79")
		if err != nil {
			return err
		}
		return wallet.FirstRate(ctx, tx, rate)
	})
	if err != nil {
		t.Fatal(err)
	}
	p.org, p.other = wallettest.Org(t, p.db, "Harbour Dental", 1_00), wallettest.Org(t, p.db, "Second Tenant", 1_00)
	p.line = newLine(t, p.clock.Now)
	first, _, _ := keysets(t)
	p.vault = newVault(t, first)
	p.gates = wallet.NewGates(wallet.GateOptions{DB: p.db, Now: p.clock.Now, Log: slog.New(slog.DiscardHandler)})
	p.number, p.theirs = p.plantNumber(p.org, "+14155550101"), p.plantNumber(p.other, "+14155550102")
	p.agents, p.Calls = p.open()
	p.agent = p.newAgent(p.org, p.number.ID)
	t.Cleanup(func() {
		p.Wait()
		wallettest.CheckBooks(t, p.db, telephony.Invariants...)
		for _, secret := range []string{vapiKey, vapiSecret, handset[3:], "See you"} {
			if strings.Contains(p.log.String(), secret) {
				t.Errorf("the log has %q", secret)
			}
		}
	})
	return p
}

// safeLog is a log that several may write.
type safeLog struct {
	mu sync.Mutex
	b  *strings.Builder
}

func (s *safeLog) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

// open puts agents and calls together: another process.
func (p *phones) open(with ...func(*telephony.CallsOptions)) (*telephony.Agents, *telephony.Calls) {
	p.t.Helper()
	log := slog.New(slog.NewTextHandler(&safeLog{b: p.log}, nil))
	inserter, err := jobs.NewInserter(p.db, slog.New(slog.DiscardHandler))
	if err != nil {
		p.t.Fatal(err)
	}
	events := telephony.VapiEvents{BaseURL: "https://ringfence.example", Secret: vapiSecret}
	agents, err := telephony.NewAgents(telephony.AgentsOptions{
		DB: p.db, Gates: p.gates, Jobs: inserter, Log: log, Now: p.clock.Now, VapiKey: vapiKey, VapiBase: p.line.server.URL, Events: events,
		Timeout: 500 * time.Millisecond, Vault: p.vault, TwilioBase: p.line.server.URL,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	o := telephony.CallsOptions{
		DB: p.db, Gates: p.gates, Log: log, Now: p.clock.Now, VapiKey: vapiKey, VapiBase: p.line.server.URL, Events: events,
		Timeout: 500 * time.Millisecond, Vault: p.vault, TwilioBase: p.line.server.URL,
		Knowledge: func(_ context.Context, l telephony.Lookup) (telephony.Found, error) {
			p.lookups = append(p.lookups, l)
			return p.found, p.lookupErr
		},
	}
	for _, fn := range with {
		fn(&o)
	}
	calls, err := telephony.NewCalls(o)
	if err != nil {
		p.t.Fatal(err)
	}
	return agents, calls
}

// plantNumber gives an organisation an active number in its own account.
func (p *phones) plantNumber(org uuid.UUID, number string) telephony.Number {
	p.t.Helper()
	id, sid := uuid.Must(uuid.NewV7()), "AC"+strings.ReplaceAll(org.String(), "-", "")
	c, err := p.vault.SaveCredential(p.t.Context(), p.db, org, telephony.BYOC, sid, "token"+strings.ReplaceAll(org.String(), "-", ""))
	if err != nil {
		p.t.Fatal(err)
	}
	dbtest.Super(p.t, p.dbURL, `UPDATE telephony_accounts SET mode = 'byoc' WHERE org_id = $1`, org)
	dbtest.Super(p.t, p.dbURL, `
		INSERT INTO numbers (id, org_id, phone_number, country, kind, state, step, account_sid, credential_id, sid, vapi_id, key, fingerprint, actor, created_at, activated_at)
		VALUES ($1, $2, $3, 'US', 'byoc', 'active', '', $4, $5, $7, gen_random_uuid()::text, $7, sha256('x'), 'system:test', $6, $6)`,
		id, org, number, sid, c.ID, p.clock.Now(), "PN"+id.String())
	for _, action := range []string{"number.ordered", "number.activated"} {
		dbtest.Super(p.t, p.dbURL, `INSERT INTO audit_log (at, org_id, actor, action, subject, reason, request_id, detail) VALUES ($1, $2, 'system:test', $3, $4, '', '', '{}')`,
			p.clock.Now(), org, action, "number:"+id.String())
	}
	n := telephony.Number{ID: id, OrgID: org, PhoneNumber: number}
	dbtest.Get(p.t, p.dbURL, &n.VapiID, `SELECT vapi_id FROM numbers WHERE id = $1`, id)
	dbtest.Get(p.t, p.dbURL, &n.AccountSID, `SELECT account_sid FROM numbers WHERE id = $1`, id)
	return n
}

// fields are those of an agent that is in order.
func fields() telephony.AgentFields {
	return telephony.AgentFields{
		Name: "Reception", Active: true, Voice: telephony.Voices[0], FirstMessage: "Harbour Dental, how can I help?", Prompt: "You answer the phone of a dentist.",
	}
}

// newAgent makes an agent, has it synced and links it; uuid.Nil links nothing.
func (p *phones) newAgent(org, number uuid.UUID) telephony.Agent {
	p.t.Helper()
	a, err := p.agents.Create(p.t.Context(), telephony.AgentRequest{OrgID: org, AgentFields: fields(), Actor: audit.System("test")})
	if err != nil {
		p.t.Fatal(err)
	}
	if number != uuid.Nil {
		if _, err = p.agents.Link(p.t.Context(), org, a.ID, number, audit.System("test")); err != nil {
			p.t.Fatal(err)
		}
	}
	p.sync(a)
	return p.agentNow(a)
}

func (p *phones) sync(a telephony.Agent) {
	p.t.Helper()
	if err := p.agents.Sync(p.t.Context(), a.OrgID, a.ID); err != nil {
		p.t.Fatal(err)
	}
}

func (p *phones) agentNow(a telephony.Agent) telephony.Agent {
	p.t.Helper()
	a, err := p.agents.Agent(p.t.Context(), a.OrgID, a.ID)
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

func (p *phones) request(key string) telephony.PlaceRequest {
	return telephony.PlaceRequest{OrgID: p.org, To: handset, Agent: p.agent.ID, Key: key, Actor: audit.System("test")}
}

func (p *phones) place(key string) (telephony.Call, *lineCall) {
	p.t.Helper()
	c, err := p.Place(p.t.Context(), p.request(key))
	if err != nil {
		p.t.Fatal(err)
	}
	made := p.line.calls()
	if len(made) == 0 {
		return c, nil
	}
	return c, made[len(made)-1]
}

// tell brings a message of Vapi's.
func (p *phones) tell(body []byte) any {
	p.t.Helper()
	answer, err := p.FromVapi(p.t.Context(), body)
	if err != nil {
		p.t.Fatal(err)
	}
	return answer
}

func (p *phones) sweep() {
	p.t.Helper()
	if _, err := p.Sweep(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

// pass lets time pass, with a sweep every few seconds as in the program. What a sweep could not find out is left.
func (p *phones) pass(d time.Duration) {
	p.t.Helper()
	for d > 0 {
		step := min(d, 5*time.Second)
		p.clock.Advance(step)
		d -= step
		_, _ = p.Sweep(p.t.Context())
	}
}

func (p *phones) call(c telephony.Call) telephony.Call {
	p.t.Helper()
	c, err := p.Call(p.t.Context(), c.OrgID, c.ID)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

func (p *phones) wantCall(what string, c telephony.Call, state telephony.CallState, seconds int64, amount money.Pence) {
	p.t.Helper()
	if c = p.call(c); c.State != state || c.Seconds != seconds || c.Amount != amount {
		p.t.Errorf("%s: the call is %s, %d s for %s (%s; %s); want %s, %d s for %s", what, c.State, c.Seconds, c.Amount, c.EndedReason, c.Note, state, seconds, amount)
	}
}

func (p *phones) wantWallet(what string, balance, held, debt money.Pence) {
	p.t.Helper()
	found, err := wallet.New(p.db).Balances(p.t.Context(), []uuid.UUID{p.org})
	if err != nil {
		p.t.Fatal(err)
	}
	if b := found[p.org]; b.Balance != balance || b.Held != held || b.Debt != debt {
		p.t.Errorf("%s: balance %s with %s held and %s owed, want %s, %s and %s", what, b.Balance, b.Held, b.Debt, balance, held, debt)
	}
}

// adjust changes what the wallet has.
func (p *phones) adjust(amount money.Pence) {
	p.t.Helper()
	err := p.db.InTx(p.t.Context(), []uuid.UUID{p.org}, func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
			OrgID: p.org, Kind: wallet.Adjustment, Amount: amount, Reason: "Test", Reference: uuid.NewString(), Actor: audit.System("test"),
		})
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *phones) number1(query string, args ...any) (n int) {
	p.t.Helper()
	dbtest.Get(p.t, p.dbURL, &n, query, args...)
	return n
}

// settle lets everything that goes on come to its end.
func (p *phones) settle() {
	p.t.Helper()
	p.line.mishap()
	for _, c := range p.line.calls() {
		p.line.end(c, "customer-ended-call")
	}
	for range 10 { // five minutes
		p.clock.Advance(31 * time.Second)
		_, _ = p.Sweep(p.t.Context())
	}
	if n := p.number1(`SELECT count(*) FROM calls WHERE ended_at IS NULL`); n != 0 {
		p.t.Errorf("%d calls hang", n)
	}
}

func wantField(t *testing.T, what string, err error, field string) {
	t.Helper()
	if f := fault.As(err); err == nil || f.Kind != fault.Invalid || f.Field != field {
		t.Errorf("%s: %v, want a fault about %s", what, err, field)
	}
}

// gates, inserter and logger are what a shop's other parts are made of.
func (s *shop) gates() *wallet.Gates {
	return wallet.NewGates(wallet.GateOptions{DB: s.db, Now: s.clock.Now, Log: slog.New(slog.DiscardHandler)})
}

func (s *shop) inserter() telephony.JobInserter {
	s.t.Helper()
	inserter, err := jobs.NewInserter(s.db, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	return inserter
}

func (s *shop) logger() *slog.Logger { return slog.New(slog.NewTextHandler(&safeLog{b: s.log}, nil)) }
