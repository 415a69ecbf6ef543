package sandbox_test

import (
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nyaruka/phonenumbers"
	openapi "github.com/twilio/twilio-go/rest/api/v2010"

	"ringfence/internal/sandbox"
)

const saying = "<Response><Say>one two three four five</Say><Pause length=\"2\"/></Response>" // 5 seconds

func calling(to string) *openapi.CreateCallParams {
	return (&openapi.CreateCallParams{}).SetFrom(ownNumber).SetTo(to).SetTwiml(saying)
}

func (p *phone) dial(params *openapi.CreateCallParams) string {
	p.t.Helper()
	call, err := p.sms.CreateCall(params)
	if err != nil {
		p.t.Fatal(err)
	}
	return *call.Sid
}

func (p *phone) call(sid string) *openapi.ApiV2010Call {
	p.t.Helper()
	call, err := p.sms.FetchCall(sid, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return call
}

// next takes a call a step further, and gives its status then.
func (p *phone) next(sid string) string {
	p.t.Helper()
	if err := p.twilio.AdvanceCall(sid); err != nil {
		p.t.Fatal(err)
	}
	return *p.call(sid).Status
}

func (p *phone) script(scripts ...sandbox.CallScript) {
	p.t.Helper()
	if err := p.twilio.Script(scripts...); err != nil {
		p.t.Fatal(err)
	}
}

// ring has the handset call a number.
func (p *phone) ring(to string) string {
	p.t.Helper()
	sid, err := p.twilio.Ring(handset, to)
	if err != nil {
		p.t.Fatal(err)
	}
	return sid
}

// heardOf gives the statuses that a call's callbacks told, in the order they came.
func (h *hooks) heardOf(sid string) []string {
	out := []string{}
	for _, form := range h.all() {
		if form.Get("CallSid") == sid && form.Get("CallbackSource") != "" {
			out = append(out, form.Get("CallStatus"))
		}
	}
	return out
}

func TestCallByHand(t *testing.T) {
	ck := newClock()
	h := newHooks(t)
	p := startTwilio(t, func(o *sandbox.Options) { o.Now = ck.Now })
	got, err := p.sms.CreateCallWithMetadata(calling(handset).SetStatusCallback(h.at("/calls")).
		SetStatusCallbackEvent([]string{"initiated", "ringing", "answered", "completed"}))
	if err != nil || got.GetStatusCode() != http.StatusCreated {
		t.Fatal(err)
	}
	c := got.GetResource()
	sid := *c.Sid
	if *c.Status != "queued" || *c.Direction != "outbound-api" || *c.From != ownNumber || *c.To != handset || c.StartTime != nil || c.Duration != nil ||
		c.Price != nil || *c.PriceUnit != "USD" || !strings.HasPrefix(sid, "CA") || *c.PhoneNumberSid == "" {
		t.Errorf("%+v", c)
	}
	for _, want := range []string{"ringing", "in-progress", "completed"} {
		ck.Add(time.Hour) // nothing happens by itself
		if got := p.next(sid); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
	last := p.call(sid)
	if *last.Duration != "5" || last.Price != nil || last.StartTime == nil || last.EndTime == nil {
		t.Errorf("%+v", last)
	}
	begun, err1 := time.Parse(time.RFC1123Z, *last.StartTime)
	ended, err2 := time.Parse(time.RFC1123Z, *last.EndTime)
	if err1 != nil || err2 != nil || ended.Sub(begun) != 5*time.Second {
		t.Errorf("%s to %s", *last.StartTime, *last.EndTime)
	}
	if p.next(sid); *p.call(sid).Price != "-0.02750" {
		t.Errorf("price %v", p.call(sid).Price)
	}
	if err := p.twilio.AdvanceCall(sid); err == nil {
		t.Error("something was left to happen")
	}
	want := []string{"initiated", "ringing", "in-progress", "completed"}
	wait(t, "the callbacks", func() bool { return slices.Equal(h.heardOf(sid), want) })
	forms := h.all()
	for i, form := range forms {
		if form.Get("SequenceNumber") != strconv.Itoa(i) || form.Get("AccountSid") != testAccount || form.Get("From") != ownNumber || form.Get("To") != handset {
			t.Errorf("%v", form)
		}
	}
	if forms[3].Get("CallDuration") != "5" || forms[3].Get("Duration") != "1" || forms[2].Has("CallDuration") || h.refused() != 0 {
		t.Errorf("%v, %d refused", forms[3], h.refused())
	}
	if b := p.twilio.Books(); len(b.Calls) != 1 || b.Calls[0].Seconds != 5 || b.Calls[0].Price != "-0.02750" || b.CallsMade != (sandbox.Creations{Asked: 1, Made: 1}) {
		t.Errorf("%+v", b.Calls)
	}
}

func TestCallsByThemselves(t *testing.T) {
	h := newHooks(t)
	p := startTwilio(t, func(o *sandbox.Options) { o.CallSecond = time.Millisecond })
	forever := `<Response><Connect><Stream url="wss://shop.example/sound"/></Connect></Response>`
	p.script(sandbox.CallScript{Number: "+447400000099", Ring: 1, Talk: 61})
	for _, c := range []struct {
		to, twiml string
		limit     int
		told      []string
		duration  string
		priced    string
	}{
		{handset, saying, 0, []string{"ringing", "in-progress", "completed"}, "5", "-0.02750"},
		{handset, forever, 0, []string{"ringing", "in-progress", "completed"}, "20", "-0.02750"},
		{usHandset, forever, 0, []string{"ringing", "in-progress", "completed"}, "20", "-0.01400"},
		{"+447400000099", forever, 0, []string{"ringing", "in-progress", "completed"}, "61", "-0.05500"},
		{sandbox.NumberTalker, forever, 90, []string{"ringing", "in-progress", "completed"}, "90", "-0.05500"},
		{sandbox.NumberBusy, saying, 0, []string{"ringing", "busy"}, "0", "0.00000"},
		{sandbox.NumberNoAnswer, saying, 0, []string{"ringing", "no-answer"}, "0", "0.00000"},
		{sandbox.NumberUnreachable, saying, 0, []string{"failed"}, "0", "0.00000"},
	} {
		params := calling(c.to).SetTwiml(c.twiml).SetStatusCallback(h.at("/calls")).SetStatusCallbackEvent([]string{"ringing", "answered", "completed"})
		if c.limit != 0 {
			params.SetTimeLimit(c.limit)
		}
		sid := p.dial(params)
		wait(t, c.to, func() bool { return slices.Equal(h.heardOf(sid), c.told) })
		wait(t, "the price of "+c.to, func() bool { return p.call(sid).Price != nil })
		if got := p.call(sid); *got.Duration != c.duration || *got.Price != c.priced {
			t.Errorf("%s: %s seconds for %s", c.to, *got.Duration, *got.Price)
		}
	}
	// Whoever lets it ring longer than Timeout has not answered.
	p.script(sandbox.CallScript{Ring: 31})
	sid := p.dial(calling(handset).SetTimeout(30).SetStatusCallback(h.at("/calls")))
	wait(t, "giving up", func() bool { return slices.Equal(h.heardOf(sid), []string{"no-answer"}) })
}

func TestNumbersThatCallsDoNotReach(t *testing.T) {
	for _, number := range []string{sandbox.NumberBusy, sandbox.NumberNoAnswer, sandbox.NumberUnreachable, sandbox.NumberTalker} {
		n, err := phonenumbers.Parse(number, "")
		if err != nil || !phonenumbers.IsValidNumberForRegion(n, "GB") {
			t.Errorf("%s: %v", number, err)
		}
	}
}

func TestEndingCalls(t *testing.T) {
	ck := newClock()
	p := startTwilio(t, func(o *sandbox.Options) { o.Now = ck.Now })
	end := func(sid, status string) *openapi.ApiV2010Call {
		t.Helper()
		call, err := p.sms.UpdateCall(sid, (&openapi.UpdateCallParams{}).SetStatus(status))
		if err != nil {
			t.Fatal(err)
		}
		return call
	}
	p.script(sandbox.CallScript{Talk: -1, Times: -1})
	forever := `<Response><Connect><Stream url="wss://shop.example/sound"/></Connect></Response>`
	queued := p.dial(calling(handset).SetTwiml(forever))
	if got := end(queued, "canceled"); *got.Status != "canceled" || *got.Duration != "0" {
		t.Errorf("%+v", got)
	}
	talking := p.dial(calling(handset).SetTwiml(forever))
	p.next(talking)
	p.next(talking)
	ck.Add(90*time.Second + 200*time.Millisecond)
	if got := end(talking, "canceled"); *got.Status != "in-progress" {
		t.Errorf("canceled ended a call in progress: %+v", got)
	}
	if got := end(talking, "completed"); *got.Status != "completed" || *got.Duration != "91" {
		t.Errorf("%+v", got)
	}
	_, err := p.sms.UpdateCall(talking, (&openapi.UpdateCallParams{}).SetStatus("completed"))
	if e := twilioError(t, err); e.Code != 21220 || e.Status != http.StatusBadRequest {
		t.Errorf("%+v", e)
	}
	person := p.dial(calling(handset).SetTwiml(forever))
	p.next(person)
	p.next(person)
	ck.Add(7 * time.Second)
	if status, body := p.postForm("/sandbox/twilio/calls/"+person+"/hang-up", nil, ""); status != http.StatusOK || decode[sandbox.BookedCall](t, body).Seconds != 7 {
		t.Errorf("%d %s", status, body)
	}
	if err := p.twilio.HangUp(person); err == nil {
		t.Error("hung up twice")
	}
	if err := p.twilio.HangUp("CA1"); err == nil {
		t.Error("nobody hung up")
	}
	if _, err := p.sms.UpdateCall(talking, (&openapi.UpdateCallParams{}).SetTwiml(saying)); twilioError(t, err).Code != 20001 {
		t.Errorf("%v", err)
	}
}

func TestCallErrors(t *testing.T) {
	p := startTwilio(t)
	for name, c := range map[string]struct {
		params *openapi.CreateCallParams
		code   int
	}{
		"no to":                 {calling(""), 21201},
		"no from":               {calling(handset).SetFrom(""), 21213},
		"to is invalid":         {calling("+15005550001"), 21217},
		"to is unroutable":      {calling("+15005550002"), 21214},
		"to is in a region":     {calling("+15005550003"), 21215},
		"to is blocked":         {calling("+15005550004"), 21216},
		"to is no number":       {calling("07400123456"), 21217},
		"from is invalid":       {calling(handset).SetFrom("+15005550001"), 21212},
		"from is somebody's":    {calling(handset).SetFrom("+447400123998"), 21210},
		"nothing to say":        {calling(handset).SetTwiml(""), 21205},
		"a URL that is none":    {calling(handset).SetTwiml("").SetUrl("ftp://x"), 21205},
		"broken XML":            {calling(handset).SetTwiml("<Response>"), 20422},
		"a verb not imitated":   {calling(handset).SetTwiml("<Response><Dial>+44</Dial></Response>"), 20422},
		"an unknown event":      {calling(handset).SetStatusCallbackEvent([]string{"dead"}), 21626},
		"an endless call":       {calling(handset).SetTimeLimit(86_401), 20422},
		"what would be ignored": {calling(handset).SetRecord(true), 20001},
	} {
		if c.params.To != nil && *c.params.To == "" {
			c.params.To = nil
		}
		if c.params.Twiml != nil && *c.params.Twiml == "" {
			c.params.Twiml = nil
		}
		_, err := p.sms.CreateCall(c.params)
		if e := twilioError(t, err); e.Code != c.code || e.Status != http.StatusBadRequest {
			t.Errorf("%s: %+v, want %d", name, e, c.code)
		}
	}
	if _, err := p.sms.FetchCall("CA1", nil); twilioError(t, err).Code != 20404 {
		t.Errorf("%v", err)
	}
	if b := p.twilio.Books(); len(b.Calls) != 0 {
		t.Errorf("%+v", b.Calls)
	}
	for _, bad := range []sandbox.CallScript{{Number: "x"}, {Does: "x"}, {Ring: -1}, {Talk: -2}, {Tools: []sandbox.ScriptedTool{{}}}} {
		if err := p.twilio.Script(bad); err == nil {
			t.Errorf("taken: %+v", bad)
		}
	}
}

func TestCallFaults(t *testing.T) {
	p := startTwilio(t)
	for _, c := range []struct {
		do   string
		code int
		made bool
	}{
		{sandbox.FaultCutAfterActing, 0, true}, {sandbox.Fault500, 20500, false}, {sandbox.Fault429, 20429, false}, {sandbox.FaultRefuse, 21215, false},
	} {
		before := len(p.twilio.Books().Calls)
		rule := sandbox.Fault{Match: sandbox.MakeCall, Do: c.do}
		if c.do == sandbox.FaultRefuse {
			rule.Code = c.code
		}
		p.faults(rule)
		_, err := p.sms.CreateCall(calling(handset))
		if err == nil || c.code != 0 && twilioError(t, err).Code != c.code {
			t.Errorf("%s: %v", c.do, err)
		}
		if made := len(p.twilio.Books().Calls) > before; made != c.made {
			t.Errorf("%s: made %v", c.do, made)
		}
	}
}

// A person calls one of the numbers, and is told what its VoiceUrl says.
func TestInboundCall(t *testing.T) {
	h := newHooks(t)
	p := startTwilio(t, func(o *sandbox.Options) { o.CallSecond = time.Millisecond })
	sub := p.subaccount("Harbour Dental")
	number := sub.buy("+14155552671")
	h.trust(sub.token)
	if _, err := p.twilio.Ring(handset, number); err == nil {
		t.Error("a call came in where nobody says what to do with it")
	}
	own := p.twilio.Books().Owned(sub.sid)[0]
	if _, err := sub.api.UpdateIncomingPhoneNumber(own.SID, (&openapi.UpdateIncomingPhoneNumberParams{}).SetVoiceUrl(h.at("/voice")).SetStatusCallback(h.at("/done"))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, kind, answer string
		status, fault      string
		seconds            int64
	}{
		{"a word", "text/xml", "<Response><Say>not enough credit</Say><Hangup/><Say>never</Say></Response>", "completed", "", 2},
		{"as long as somebody listens", "text/xml", `<Response><Connect><Stream url="wss://shop.example/x"/></Connect></Response>`, "completed", "", 20},
		{"nothing", "", "", "completed", "", 0},
		{"rejected", "text/xml", "<Response><Reject/></Response>", "no-answer", "", 0},
		{"busy", "text/xml", `<Response><Reject reason="busy"/></Response>`, "busy", "", 0},
		{"JSON", "application/json", "{}", "failed", "12300", 0},
		{"a verb not imitated", "text/xml", "<Response><Gather/></Response>", "failed", "12200", 0},
	} {
		h.replies(c.kind, c.answer)
		sid := p.ring(number)
		wait(t, c.name, func() bool { return slices.Equal(h.heardOf(sid), []string{c.status}) })
		got := p.twilio.Callbacks(sid)[0]
		if got.What != "voice" || !strings.HasPrefix(got.Fault, c.fault) || (got.Fault != "") != (c.fault != "") {
			t.Errorf("%s: %+v", c.name, got)
		}
		calls := p.twilio.Books().Calls
		if last := calls[len(calls)-1]; last.Seconds != c.seconds || last.Direction != "inbound" || last.Account != sub.sid {
			t.Errorf("%s: %+v", c.name, last)
		}
	}
	if form := h.all()[0]; form.Get("CallStatus") != "ringing" || form.Get("Direction") != "inbound" || form.Get("From") != handset || form.Get("To") != number ||
		form.Get("AccountSid") != sub.sid {
		t.Errorf("%v", form)
	}
	// Nobody answers the webhook.
	h.fail(http.StatusInternalServerError)
	sid := p.ring(number)
	wait(t, "the failure", func() bool { return slices.Equal(h.heardOf(sid), []string{"failed"}) })
	if got := p.twilio.Callbacks(sid)[0]; got.State != "failed" || got.Attempts != 1 || !strings.HasPrefix(got.Fault, "11200") {
		t.Errorf("%+v", got)
	}
	status, body := p.postForm("/sandbox/twilio/ring", url.Values{"from": {handset}, "to": {"+14155552999"}}, "")
	if e := decode[struct{ Error struct{ Code int } }](t, body); status != http.StatusNotFound || e.Error.Code != 20404 {
		t.Errorf("%d %s", status, body)
	}
	if h.refused() != 0 {
		t.Errorf("%d signatures did not hold", h.refused())
	}
}

// An outbound call with a Url asks what to say once somebody has answered.
func TestCallWithURL(t *testing.T) {
	h := newHooks(t)
	h.replies("text/xml", saying)
	p := startTwilio(t, func(o *sandbox.Options) { o.CallSecond = time.Millisecond })
	params := func() *openapi.CreateCallParams {
		return (&openapi.CreateCallParams{}).SetFrom(ownNumber).SetTo(handset).SetUrl(h.at("/voice"))
	}
	sid := p.dial(params())
	wait(t, "its end", func() bool { return *p.call(sid).Status == "completed" })
	if got := p.call(sid); *got.Duration != "5" || p.twilio.Callbacks(sid)[0].What != "voice" {
		t.Errorf("%+v", got)
	}
	if form := h.all()[0]; form.Get("CallStatus") != "in-progress" || form.Get("CallSid") != sid {
		t.Errorf("%v", form)
	}
	h.replies("text/plain", "x")
	sid = p.dial(params())
	wait(t, "the bad answer's end", func() bool { return *p.call(sid).Status == "completed" })
	if got := p.call(sid); *got.Duration != "0" {
		t.Errorf("%+v", got)
	}
}

func TestCallLists(t *testing.T) {
	ck := newClock()
	p := startTwilio(t, func(o *sandbox.Options) { o.Now = ck.Now })
	var sids []string // newest first
	for _, to := range []string{handset, usHandset, handset} {
		sid := p.dial(calling(to))
		p.next(sid)
		p.next(sid)
		sids = slices.Insert(sids, 0, sid)
		ck.Add(24 * time.Hour)
	}
	p.next(sids[2])
	begun, err := time.Parse(time.RFC1123Z, *p.call(sids[1]).StartTime)
	if err != nil {
		t.Fatal(err)
	}
	filter := func() *openapi.ListCallParams { return &openapi.ListCallParams{} }
	for name, c := range map[string]struct {
		params *openapi.ListCallParams
		want   []string
	}{
		"all":           {filter().SetPageSize(2), sids},
		"to":            {filter().SetTo(usHandset), sids[1:2]},
		"from":          {filter().SetFrom(ownNumber), sids},
		"completed":     {filter().SetStatus("completed"), sids[2:]},
		"started on":    {filter().SetStartTime(begun), sids[1:2]},
		"started since": {filter().SetStartTimeAfter(begun), sids[:2]},
		"ended until":   {filter().SetEndTimeBefore(begun.Add(time.Hour)), sids[2:]},
	} {
		calls, err := p.sms.ListCall(c.params)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range calls {
			got = append(got, *calls[i].Sid)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v of %v", name, got, c.want, sids)
		}
	}
}

func TestCallsSurviveRestarts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sandbox.db")
	ck := newClock()
	h := newHooks(t)
	same := func(o *sandbox.Options) { o.StateFile, o.Now, o.CallSecond = file, ck.Now, time.Second }
	one := startTwilio(t, same)
	sid := one.dial(calling(handset).SetStatusCallback(h.at("/calls")))
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	two := startTwilio(t, same)
	wait(t, "its end", func() bool { ck.Add(time.Second); return slices.Equal(h.heardOf(sid), []string{"completed"}) })
	if got := two.call(sid); *got.Duration != "5" {
		t.Errorf("%+v", got)
	}
	wait(t, "its price", func() bool { ck.Add(time.Second); return two.call(sid).Price != nil })
}

func TestCallerIDs(t *testing.T) {
	h := newHooks(t)
	p := startTwilio(t)
	request := func(number string) (*openapi.ApiV2010ValidationRequest, error) {
		return p.sms.CreateValidationRequest((&openapi.CreateValidationRequestParams{}).SetPhoneNumber(number).SetFriendlyName("Reception").SetStatusCallback(h.at("/caller")))
	}
	asked, err := request(handset)
	if err != nil || len(*asked.ValidationCode) != 6 || *asked.PhoneNumber != handset || *asked.FriendlyName != "Reception" || !strings.HasPrefix(*asked.CallSid, "CA") {
		t.Fatalf("%v %+v", err, asked)
	}
	from := func() error { _, err := p.sms.CreateCall(calling(usHandset).SetFrom(handset)); return err }
	if err := from(); twilioError(t, err).Code != 21210 {
		t.Errorf("before it is verified: %v", err)
	}
	typed := func(code string) bool {
		_, body := p.postForm("/sandbox/twilio/caller-ids", url.Values{"number": {handset}, "code": {code}}, "")
		return decode[struct{ Verified bool }](t, body).Verified
	}
	if typed("x" + *asked.ValidationCode) {
		t.Error("a wrong code was taken")
	}
	wait(t, "the first callback", func() bool { return len(h.all()) == 1 })
	if _, err := p.twilio.TypeCode(handset, ""); err == nil {
		t.Error("a code was taken when none was asked for")
	}
	if asked, err = request(handset); err != nil || !typed(*asked.ValidationCode) {
		t.Fatalf("%v: the right code was not taken", err)
	}
	wait(t, "the callbacks", func() bool { return len(h.all()) == 2 })
	if a, b := h.all()[0], h.all()[1]; a.Get("VerificationStatus") != "failed" || b.Get("VerificationStatus") != "success" ||
		!strings.HasPrefix(b.Get("OutgoingCallerIdSid"), "PN") || b.Get("To") != handset || h.refused() != 0 {
		t.Errorf("%v, %v, %d refused", a, b, h.refused())
	}
	if err := from(); err != nil {
		t.Errorf("a verified number: %v", err)
	}
	if _, err := request(handset); twilioError(t, err).Code != 21450 {
		t.Errorf("asked twice: %v", err)
	}
	if _, err := request("+447700900123"); twilioError(t, err).Code != 21401 {
		t.Errorf("no number: %v", err)
	}
	list, err := p.sms.ListOutgoingCallerId((&openapi.ListOutgoingCallerIdParams{}).SetPhoneNumber(handset))
	if err != nil || len(list) != 1 || *list[0].FriendlyName != "Reception" {
		t.Fatalf("%v %+v", err, list)
	}
	sid := *list[0].Sid
	if got, err := p.sms.UpdateOutgoingCallerId(sid, (&openapi.UpdateOutgoingCallerIdParams{}).SetFriendlyName("Desk")); err != nil || *got.FriendlyName != "Desk" {
		t.Errorf("%v %+v", err, got)
	}
	// It is the account's alone.
	sub := p.subaccount("Another")
	if _, err := sub.api.CreateCall(calling(usHandset).SetFrom(handset)); twilioError(t, err).Code != 21210 {
		t.Errorf("another account's: %v", err)
	}
	if err := p.sms.DeleteOutgoingCallerId(sid, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := p.sms.FetchOutgoingCallerId(sid, nil); twilioError(t, err).Code != 20404 {
		t.Errorf("%v", err)
	}
	if err := from(); twilioError(t, err).Code != 21210 {
		t.Errorf("after it was deleted: %v", err)
	}
	var states []string
	for _, c := range p.twilio.Books().Callers {
		states = append(states, c.State)
	}
	if !slices.Equal(states, []string{"failed", "deleted"}) {
		t.Errorf("%v", states)
	}
}

func TestScriptsOverHTTP(t *testing.T) {
	p := startTwilio(t)
	status, body := p.postJSON("/sandbox/twilio/scripts", `{"ring":1,"talk":61,"times":2}`)
	if status != http.StatusOK || !strings.Contains(body, `"talk": 61`) {
		t.Errorf("%d %s", status, body)
	}
	for range 3 {
		p.dial(calling(handset))
	}
	if got := p.twilio.Scripts(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	if status, body := p.postJSON("/sandbox/twilio/scripts", `[{"does":"sing"}]`); status != http.StatusBadRequest {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := p.postJSON("/sandbox/twilio/scripts", `[]`); status != http.StatusOK {
		t.Errorf("%d", status)
	}
}
