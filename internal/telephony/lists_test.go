package telephony_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/telephony"
)

// TestFindCalls: calls are found by direction, state, agent, number and day, page by page, and only one's own.
func TestFindCalls(t *testing.T) {
	p := newPhones(t)
	p.adjust(99_00)
	second := p.newAgent(p.org, p.plantNumber(p.org, "+14155550155").ID)
	var made []telephony.Call
	for i, to := range []string{handset, "+447400123999", handset, "+12025550123"} {
		r := p.request(fmt.Sprint(i))
		if r.To = to; i == 3 {
			r.Agent = second.ID
		}
		c, err := p.Place(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, c)
		if i == 0 {
			at := p.line.calls()[0]
			p.line.answer(at)
			p.clock.Advance(10 * time.Second)
			p.line.end(at, "customer-ended-call")
			p.tell(p.line.news(at, "end-of-call-report", ""))
			p.clock.Advance(48 * time.Hour)
		}
	}
	day := made[0].CreatedAt.UTC().Truncate(24 * time.Hour)
	for what, c := range map[string]struct {
		f    telephony.CallFilter
		want []int
	}{
		"all":              {telephony.CallFilter{}, []int{3, 2, 1, 0}},
		"outbound":         {telephony.CallFilter{Direction: telephony.OutboundCall}, []int{3, 2, 1, 0}},
		"inbound":          {telephony.CallFilter{Direction: telephony.InboundCall}, nil},
		"completed":        {telephony.CallFilter{State: telephony.CallCompleted}, []int{0}},
		"of an agent":      {telephony.CallFilter{Agent: second.ID}, []int{3}},
		"of nobody":        {telephony.CallFilter{Agent: uuid.New()}, nil},
		"with a number":    {telephony.CallFilter{Number: "+44 7400 123456"}, []int{2, 0}},
		"with some digits": {telephony.CallFilter{Number: "123 999"}, []int{1}},
		"our number":       {telephony.CallFilter{Number: "+14155550155"}, []int{3}},
		"until that day":   {telephony.CallFilter{Days: telephony.Days{To: day}}, []int{0}},
		"from that day":    {telephony.CallFilter{Days: telephony.Days{From: day}}, []int{3, 2, 1, 0}},
		"after that day":   {telephony.CallFilter{Days: telephony.Days{From: day.AddDate(0, 0, 1)}}, []int{3, 2, 1}},
		"all of it":        {telephony.CallFilter{Direction: telephony.OutboundCall, State: telephony.CallRinging, Number: "456", Agent: p.agent.ID}, []int{2}},
	} {
		page, err := p.Find(t.Context(), p.org, c.f, uuid.Nil, 10)
		var got []int
		for _, call := range page.List {
			got = append(got, slices.IndexFunc(made, func(m telephony.Call) bool { return m.ID == call.ID }))
		}
		if err != nil || !slices.Equal(got, c.want) || page.Older != uuid.Nil || page.Stopped {
			t.Errorf("%s: %v, want %v (%+v, %v)", what, got, c.want, page.Older, err)
		}
		if theirs, err := p.Find(t.Context(), p.other, c.f, uuid.Nil, 10); err != nil || len(theirs.List) != 0 {
			t.Errorf("%s: another organisation finds %d, %v", what, len(theirs.List), err)
		}
	}
	var seen []uuid.UUID
	for before := uuid.Nil; ; {
		page, err := p.Find(t.Context(), p.org, telephony.CallFilter{}, before, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page.List {
			if seen = append(seen, c.ID); c.Transcript != "" {
				t.Error("the list has what was said")
			}
		}
		if before = page.Older; before == uuid.Nil {
			break
		}
	}
	if len(seen) != 4 {
		t.Errorf("page by page there are %d", len(seen))
	}
	back := telephony.LookAtMost(1)
	found, pages := 0, 0
	for before := uuid.Nil; ; {
		page, err := p.Find(t.Context(), p.org, telephony.CallFilter{State: telephony.CallCompleted}, before, 10)
		if err != nil || page.Stopped != (page.Older != uuid.Nil) {
			t.Fatalf("%+v, %v", page, err)
		}
		found += len(page.List)
		if pages++; page.Older == uuid.Nil {
			break
		}
		before = page.Older
	}
	back()
	if found != 1 || pages < 3 {
		t.Errorf("%d were found on %d pages", found, pages)
	}
	for field, f := range map[string]telephony.CallFilter{
		"direction": {Direction: "up"}, "state": {State: "lost"}, "number": {Number: "12"}, "to": {Days: telephony.Days{From: day, To: day.AddDate(0, 0, -1)}},
	} {
		_, err := p.Find(t.Context(), p.org, f, uuid.Nil, 10)
		wantField(t, field, err, field)
	}
	for _, number := range []string{"hello", "123\x00", "\xff456", "+44 7400 123456 123456 123456"} {
		_, err := p.Find(t.Context(), p.org, telephony.CallFilter{Number: number}, uuid.Nil, 10)
		wantField(t, number, err, "number")
	}
	p.settle()
}

// TestEraseCall: what was said in a call is erased when its organisation says so, once it has ended, and at Vapi too.
func TestEraseCall(t *testing.T) {
	p := newPhones(t)
	c, at := p.place("k")
	_, err := p.EraseCall(t.Context(), p.org, c.ID, audit.System("test"))
	wantFault(t, "while it goes on", err, fault.Conflict, "under_way")
	p.line.answer(at)
	p.clock.Advance(10 * time.Second)
	p.line.end(at, "customer-ended-call")
	p.tell(p.line.news(at, "end-of-call-report", ""))
	c = p.call(c)
	if due := c.EraseDue(90); c.Transcript == "" || due == nil || !due.Equal(c.EndedAt.AddDate(0, 0, 90)) {
		t.Errorf("%+v is erased at %v", c, due)
	}
	_, err = p.EraseCall(t.Context(), p.other, c.ID, audit.System("test"))
	wantFault(t, "by another organisation", err, fault.NotFound, "")
	for range 2 {
		c, err = p.EraseCall(t.Context(), p.org, c.ID, audit.System("test"))
		if err != nil || c.Transcript != "" || c.RecordingURL != "" || c.ErasedAt == nil || c.Amount != 10 || c.Party != handset || c.EraseDue(90) != nil {
			t.Errorf("%+v, %v", c, err)
		}
	}
	p.tell(p.line.news(at, "end-of-call-report", "")) // which comes again, and changes nothing
	if c = p.call(c); c.Transcript != "" {
		t.Error("what was erased has come back")
	}
	if _, err := p.Erase(t.Context()); err != nil || len(p.line.erased) != 1 {
		t.Errorf("Vapi has forgotten %v, %v", p.line.erased, err)
	}
	if n := p.number1(`SELECT count(*) FROM audit_log WHERE action = 'call.erased' AND subject = 'call:' || $1`, c.ID); n != 1 {
		t.Errorf("it is in the audit log %d times", n)
	}
	p.wantWallet("erased", 90, 0, 0)
}

// What the agent was to say first stays with the call, whatever the agent becomes.
func TestConsentStays(t *testing.T) {
	p := newPhones(t)
	f := fields()
	f.Recorded, f.Consent = true, "This call is recorded."
	if _, err := p.agents.Edit(t.Context(), p.org, p.agent.ID, f, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	p.sync(p.agent)
	c, _ := p.place("k")
	if _, err := p.agents.Edit(t.Context(), p.org, p.agent.ID, fields(), audit.System("test")); err != nil {
		t.Fatal(err)
	}
	if c = p.call(c); !c.Recorded || c.Consent != "This call is recorded." {
		t.Errorf("%+v", c)
	}
	p.settle()
}

// TestFindTexts: texts that went out and that came in are one list, found by direction, state, party, own number and day.
func TestFindTexts(t *testing.T) {
	d := newOwnDesk(t)
	n := d.have(d.choose(1)[0], "number")
	receive := func(sid, from, body string) {
		t.Helper()
		if _, err := d.Receive(t.Context(), telephony.Inbound{SID: sid, From: from, To: n.PhoneNumber, Body: body, AccountSID: n.AccountSID.String}); err != nil {
			t.Fatal(err)
		}
	}
	d.send("", "0")
	d.send(n.PhoneNumber, "1")
	receive("SM2", handset, "2 🦷")
	receive("SM3", "+447400123999", "3")
	d.clock.Advance(48 * time.Hour)
	to := d.text(n.PhoneNumber, "4")
	to.To = "+447400123999"
	if _, err := d.Send(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	day := d.clock.Now().UTC().Truncate(24 * time.Hour)
	bodies := func(f telephony.TextFilter, org uuid.UUID, limit int) (got string, p telephony.Page[telephony.Text]) {
		t.Helper()
		p, err := d.Find(t.Context(), org, f, uuid.Nil, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range p.List {
			got += string(text.Body[len("Hello ")*map[bool]int{false: 1, true: 0}[text.Inbound]])
		}
		return got, p
	}
	for what, c := range map[string]struct {
		f    telephony.TextFilter
		want string
	}{
		"all": {telephony.TextFilter{}, "43210"}, "out": {telephony.TextFilter{Direction: telephony.OutboundCall}, "410"}, "in": {telephony.TextFilter{Direction: telephony.InboundCall}, "32"},
		"received": {telephony.TextFilter{State: telephony.Received}, "32"}, "sent": {telephony.TextFilter{State: telephony.Sent}, "410"}, "failed": {telephony.TextFilter{State: telephony.Failed}, ""},
		"with one": {telephony.TextFilter{Party: "+44 7400 123456"}, "210"}, "a conversation": {telephony.TextFilter{With: "+447400123999"}, "43"}, "half of one": {telephony.TextFilter{With: "+4474001239"}, ""},
		"our own number": {telephony.TextFilter{Ours: n.PhoneNumber}, "4321"}, "the shared one": {telephony.TextFilter{Ours: sender}, "0"},
		"that day": {telephony.TextFilter{Days: telephony.Days{From: day}}, "4"}, "before it": {telephony.TextFilter{Days: telephony.Days{To: day.AddDate(0, 0, -1)}}, "3210"},
	} {
		if got, _ := bodies(c.f, d.org, 10); got != c.want {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
		if got, _ := bodies(c.f, d.other, 10); got != "" {
			t.Errorf("%s: another organisation finds %q", what, got)
		}
	}
	_, p := bodies(telephony.TextFilter{}, d.org, 2)
	next, err := d.Find(t.Context(), d.org, telephony.TextFilter{}, p.Older, 10)
	if err != nil || len(p.List) != 2 || len(next.List) != 3 || next.Older != uuid.Nil {
		t.Errorf("%d and %d, %v", len(p.List), len(next.List), err)
	}
	in, out := next.List[0], next.List[1]
	if !in.Inbound || in.Segments != 1 || in.Encoding != telephony.UCS2 || in.Ours != n.PhoneNumber || in.Party != handset || in.State != telephony.Received {
		t.Errorf("%+v", in)
	}
	if out.Inbound || out.Message.ID != out.ID || out.Message.Amount != 10 || out.Ours != n.PhoneNumber || out.Party != handset {
		t.Errorf("%+v", out)
	}
	for _, one := range []telephony.Text{in, out} {
		if got, err := d.Text(t.Context(), d.org, one.ID); err != nil || got.ID != one.ID || got.Body != one.Body || got.Inbound != one.Inbound {
			t.Errorf("%+v, %v", got, err)
		}
		_, err := d.Text(t.Context(), d.other, one.ID)
		wantFault(t, "another organisation's", err, fault.NotFound, "")
	}
	// Looking ends somewhere, and goes on from there.
	back := telephony.LookAtMost(1)
	defer back()
	found, pages := 0, 0
	for before := uuid.Nil; ; {
		page, err := d.Find(t.Context(), d.org, telephony.TextFilter{Ours: sender}, before, 10)
		if err != nil || page.Stopped != (page.Older != uuid.Nil) {
			t.Fatalf("%+v, %v", page, err)
		}
		found += len(page.List)
		if pages++; page.Older == uuid.Nil {
			break
		}
		before = page.Older
	}
	if found != 1 || pages < 3 {
		t.Errorf("%d were found on %d pages", found, pages)
	}
	for field, f := range map[string]telephony.TextFilter{"direction": {Direction: "up"}, "state": {State: "lost"}, "party": {Party: "x"}, "number": {Ours: "1"}} {
		_, err := d.Find(t.Context(), d.org, f, uuid.Nil, 10)
		wantField(t, field, err, field)
	}
}
