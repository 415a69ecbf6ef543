package sandbox

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Vapi is the stand-in for Vapi: phone numbers, assistants and calls of one organisation
// (https://docs.vapi.ai/api-reference). Its telephone is the sandbox's Twilio, as Vapi's is the customer's own.
//
// All state is in memory under one mutex and is written to the state file before the answer is given. While it is held
// Twilio's may be taken, never the other way round.
type Vapi struct {
	keeper

	key       string
	secret    string
	serverURL string // where messages go that neither an assistant nor a number has a server for
	base      string // of the API, without a trailing slash
	org       string
	twilio    *Twilio
	log       *slog.Logger
	life      context.Context // the sandbox's own life, which outlasts any request

	seq            uint64 // of everything; each order below is by it, rising
	numbers        map[string]*vapiRow
	numberOrder    []*vapiRow
	assistants     map[string]*vapiRow
	assistantOrder []*vapiRow
	calls          map[string]*vapiCall
	callOrder      []*vapiCall
	bySID          map[string]*vapiCall // by the call at Twilio
	creations      map[string]*Creations

	clock   *alarms
	courier *courier
	teller  *teller
	steps   sync.WaitGroup // steps whose writing is awaited

	faults faultList
}

// vapiRow is a phone number or an assistant: what was sent, and what Vapi adds.
type vapiRow struct {
	Seq     uint64         `json:"seq"`
	ID      string         `json:"id"`
	Created int64          `json:"created"` // Unix nanoseconds, like every time here
	Updated int64          `json:"updated"`
	Deleted int64          `json:"deleted,omitempty"`
	Fields  map[string]any `json:"fields"`
}

func (r *vapiRow) sequence() uint64 { return r.Seq }
func (r *vapiRow) id() string       { return r.ID }

// text gives a field that is a string; empty when it is none.
func (r *vapiRow) text(name string) string {
	s, _ := r.Fields[name].(string)
	return s
}

const (
	bucketVapiNumbers    = "vapi.numbers"
	bucketVapiAssistants = "vapi.assistants"
	bucketVapiCalls      = "vapi.calls"
	bucketVapiCreations  = "vapi.creations"

	// vapiPath is where the API stands on the sandbox's address.
	vapiPath = "/vapi"
)

// newVapi gives the stand-in, or nil when it has no key.
func newVapi(life context.Context, o Options, base string, st *store, twilio *Twilio) (*Vapi, error) {
	if o.VapiAPIKey == "" {
		return nil, nil // there is no Vapi then, which is not an error
	}
	switch {
	case o.VapiWebhookSecret == "":
		return nil, errors.New("sandbox: VapiWebhookSecret is not set: nobody could tell who sends Vapi's messages")
	case twilio == nil:
		return nil, errors.New("sandbox: Vapi needs Twilio: set TwilioAccountSID")
	}
	v := &Vapi{
		keeper: keeper{store: st, now: o.Now},
		key:    o.VapiAPIKey, secret: o.VapiWebhookSecret, serverURL: o.VapiServerURL, base: base + vapiPath, twilio: twilio,
		log: o.Logger, life: life, numbers: map[string]*vapiRow{}, assistants: map[string]*vapiRow{},
		calls: map[string]*vapiCall{}, bySID: map[string]*vapiCall{}, clock: newAlarms(o.Now), courier: newCourier(o),
		creations: map[string]*Creations{}, faults: faultList{words: vapiFaults},
		// Always the same, like the organisation of a key.
		org: "5a4db0c5-0000-4000-8000-000000000001",
	}
	v.courier.client.Timeout = 0 // each server says how long it may take
	v.teller = v.newTeller()
	if err := v.load(); err != nil {
		return nil, err
	}
	twilio.onCall = v.look
	v.resume()
	return v, nil
}

// resume takes up what was under way when the state file was last closed.
func (v *Vapi) resume() {
	for _, x := range v.callOrder {
		v.bySID[x.SID] = x
		v.teller.callNext(x)
		if x.Status != vapiEnded {
			v.look(x.SID)
		}
	}
}

// run follows calls and sends messages until ctx ends, then waits for what is under way.
func (v *Vapi) run(ctx context.Context) {
	var loops sync.WaitGroup
	loops.Go(func() { v.clock.loop(ctx) })
	loops.Go(func() { v.courier.run(ctx) })
	loops.Wait()
	v.steps.Wait()
}

func (v *Vapi) load() (err error) {
	if v.numberOrder, err = loadRows(v.store, bucketVapiNumbers, v.numbers); err != nil {
		return err
	}
	if v.assistantOrder, err = loadRows(v.store, bucketVapiAssistants, v.assistants); err != nil {
		return err
	}
	if v.callOrder, err = loadRows(v.store, bucketVapiCalls, v.calls); err != nil {
		return err
	}
	v.seq = max(last(v.numberOrder), last(v.assistantOrder), last(v.callOrder))
	return loadMap(v.store, bucketVapiCreations, v.creations)
}

// mount puts Vapi's API and its controls on the mux.
func (v *Vapi) mount(mux *http.ServeMux) {
	v.mountAPI(mux)
	v.mountLive(mux)
	v.mountControl(mux)
}

// vapiTime is a time as Vapi writes it, in UTC and to the millisecond.
func vapiTime(nanoseconds int64) string {
	return time.Unix(0, nanoseconds).UTC().Format("2006-01-02T15:04:05.000Z")
}

// view is a resource as Vapi shows it.
func (v *Vapi) view(r *vapiRow) map[string]any {
	out := maps.Clone(r.Fields)
	out["id"], out["orgId"] = r.ID, v.org
	out["createdAt"], out["updatedAt"] = vapiTime(r.Created), vapiTime(r.Updated)
	return out
}

// vapiTable is one of the stand-in's two tables of rows, as the operations on both use it.
type vapiTable struct {
	bucket, name string
	rows         map[string]*vapiRow
	order        *[]*vapiRow
}

func (v *Vapi) numberTable() vapiTable {
	return vapiTable{bucketVapiNumbers, "Phone Number", v.numbers, &v.numberOrder}
}

func (v *Vapi) assistantTable() vapiTable {
	return vapiTable{bucketVapiAssistants, "Assistant", v.assistants, &v.assistantOrder}
}

// add stores a new row.
func (v *Vapi) add(c *changes, t vapiTable, fields map[string]any) *vapiRow {
	v.seq++
	r := &vapiRow{Seq: v.seq, ID: uuid.NewString(), Created: c.now.UnixNano(), Updated: c.now.UnixNano(), Fields: unset(fields)}
	t.rows[r.ID] = r
	*t.order = append(*t.order, r)
	c.put(t.bucket, r.ID, r)
	return r
}

// patch changes what was sent, and clears what was sent as null.
func (v *Vapi) patch(c *changes, t vapiTable, r *vapiRow, fields map[string]any) {
	merged := maps.Clone(r.Fields)
	maps.Copy(merged, fields)
	r.Fields, r.Updated = unset(merged), c.now.UnixNano()
	c.put(t.bucket, r.ID, r)
}

// drop deletes a row; the books still know it.
func (v *Vapi) drop(c *changes, t vapiTable, r *vapiRow) {
	r.Deleted = c.now.UnixNano()
	c.put(t.bucket, r.ID, r)
}

// find gives a row that was not deleted, or 404.
func (t vapiTable) find(id string) (*vapiRow, error) {
	if r := t.rows[id]; r != nil && r.Deleted == 0 {
		return r, nil
	}
	return nil, vapiMissing(t.name, id)
}

// unset leaves out what is null.
func unset(fields map[string]any) map[string]any {
	maps.DeleteFunc(fields, func(_ string, v any) bool { return v == nil })
	return fields
}
