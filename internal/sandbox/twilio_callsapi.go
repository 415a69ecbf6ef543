package sandbox

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// The numbers that Twilio's test credentials refuse to call, and to call from; see
// https://www.twilio.com/docs/iam/test-credentials#test-calls.
var (
	magicCall = map[string]int{
		"+15005550001": codeInvalidPhone, "+15005550002": codeCallUnroutable, "+15005550003": codeCallRegion,
		"+15005550004": codeCallBlocked,
	}
	magicCaller = map[string]int{"+15005550001": codeInvalidFrom}
)

// makeCall is https://www.twilio.com/docs/voice/api/call-resource#create-a-call-resource.
func makeCall(t *Twilio, c *changes, in *asked) (any, error) {
	if err := in.allow("To", "From", "Url", "Method", "Twiml", "StatusCallback", "StatusCallbackMethod", "StatusCallbackEvent",
		"Timeout", "TimeLimit"); err != nil {
		return nil, err
	}
	p := &phoneCall{
		Account: in.account, Direction: directionAPI, From: in.form.Get("From"), To: in.form.Get("To"), Status: callQueued,
		URL: in.form.Get("Url"), StatusCallback: in.form.Get("StatusCallback"),
	}
	if err := t.callable(p); err != nil {
		return nil, err
	}
	if err := p.direct(in); err != nil {
		return nil, err
	}
	t.place(c, p)
	t.made(c, countCalls)
	return p.view(), nil
}

// callable says why a call cannot be made, if it cannot.
func (t *Twilio) callable(p *phoneCall) error {
	switch {
	case p.To == "":
		return twilioFail(codeNoCallTo, "No 'To' number is specified")
	case p.From == "":
		return twilioFail(codeNoCallFrom, "No 'From' number is specified")
	case magicCall[p.To] != 0:
		return callError(magicCall[p.To], p.From, p.To)
	case !e164.MatchString(p.To):
		return callError(codeInvalidPhone, p.From, p.To)
	case magicCaller[p.From] != 0 || !e164.MatchString(p.From):
		return sendError(codeInvalidFrom, p.From, p.To)
	}
	if n := t.owned[p.From]; n != nil && n.Account == p.Account {
		p.NumberSID = n.SID
		return nil
	}
	if t.verified(p.Account, p.From) == nil {
		return callError(codeUnverified, p.From, p.To)
	}
	return nil
}

func callError(code int, from, to string) *twilioError {
	switch code {
	case codeUnverified:
		return twilioFail(code,
			"The source phone number provided, %s, is not yet verified for your account. You may only make calls from phone "+
				"numbers that you've verified or purchased from Twilio.", from)
	case codeCallUnroutable:
		return twilioFail(code, "The number %s could not be reached.", to)
	case codeCallRegion:
		return twilioFail(code, "Account not authorized to call %s. Perhaps you need to enable some international permissions.", to)
	case codeCallBlocked:
		return twilioFail(code, "Account not allowed to call %s", to)
	default:
		return twilioFail(code, "Phone number %s is not valid", to)
	}
}

// direct reads what a call's request says besides from and to.
func (p *phoneCall) direct(in *asked) error {
	twiml := in.form.Get("Twiml")
	switch {
	case (twiml == "") == (p.URL == ""):
		return twilioFail(codeInvalidCallURL, "Url or Twiml is required, and only one of them.")
	case p.URL != "" && !callbackURL(p.URL):
		return twilioFail(codeInvalidCallURL, "Url is not a valid URL: %s", p.URL)
	case p.StatusCallback != "" && !callbackURL(p.StatusCallback):
		return twilioFail(codeInvalidCallback, "The 'StatusCallback' URL %s is not a valid URL", p.StatusCallback)
	}
	for _, name := range []string{"Method", "StatusCallbackMethod"} {
		if v := in.form.Get(name); v != "" && v != "POST" {
			return twilioFail(codeInvalidMethod, "%s: the sandbox knows only POST, not %s", name, v)
		}
	}
	var err error
	if twiml != "" {
		if p.Doc, err = parseVoiceXML([]byte(twiml)); err != nil {
			return twilioFail(codeInvalidParameter, "Twiml is not valid: %s", err)
		}
	}
	if p.Timeout, err = in.integer("Timeout", 1, timeoutMax, timeoutDefault); err != nil {
		return err
	}
	if p.TimeLimit, err = in.integer("TimeLimit", 1, limitMax, limitDefault); err != nil {
		return err
	}
	for _, event := range in.form["StatusCallbackEvent"] {
		for one := range strings.FieldsSeq(event) {
			if !slices.Contains(callEvents, one) {
				return twilioFail(codeInvalidEvent, "Invalid StatusCallbackEvent: %s", one)
			}
			p.Events = append(p.Events, one)
		}
	}
	if len(p.Events) == 0 {
		p.Events = []string{"completed"}
	}
	return nil
}

// place puts a call on its way.
func (t *Twilio) place(c *changes, p *phoneCall) {
	p.Script = t.scriptFor(p.To)
	t.addCall(c, p)
	t.tellCall(c, p, "initiated")
	t.planCall(c, p)
}

// callOf gives the call that a request is about.
func (t *Twilio) callOf(in *asked) (*phoneCall, error) {
	if p := t.calls[in.sid]; p != nil && p.Account == in.account {
		return p, nil
	}
	return nil, notFound(in.path)
}

// fetchCall is https://www.twilio.com/docs/voice/api/call-resource#fetch-a-call-resource.
func fetchCall(t *Twilio, _ *changes, in *asked) (any, error) {
	p, err := t.callOf(in)
	if err == nil {
		err = in.allow()
	}
	if err != nil {
		return nil, err
	}
	return p.view(), nil
}

// updateCall is https://www.twilio.com/docs/voice/api/call-resource#update-a-call-resource: it ends a call. canceled
// leaves one alone that was answered.
func updateCall(t *Twilio, c *changes, in *asked) (any, error) {
	p, err := t.callOf(in)
	if err == nil {
		err = in.allow("Status")
	}
	if err != nil {
		return nil, err
	}
	status := in.form.Get("Status")
	if status != callCompleted && status != callCanceled {
		return nil, twilioFail(codeInvalidParameter, "Invalid Status: %s", status)
	}
	if p.over() {
		return nil, twilioFail(codeCallState, "Call is not in-progress. Cannot redirect.")
	}
	t.hangUp(c, p, status == callCompleted)
	return p.view(), nil
}

// The filters by the time a call was answered or ended; see timeFilter.
const (
	startedOn = "StartTime"
	endedOn   = "EndTime"
)

// listCalls is https://www.twilio.com/docs/voice/api/call-resource#read-multiple-call-resources. Calls that were never
// answered count by when they were made, as at Twilio.
func listCalls(t *Twilio, _ *changes, in *asked) (any, error) {
	filters := []string{
		"To", "From", "Status", startedOn, startedOn + "<", startedOn + ">", endedOn, endedOn + "<", endedOn + ">",
	}
	if err := in.allow(pagedBy(filters...)...); err != nil {
		return nil, err
	}
	started, err := timeFilter(in.form, startedOn)
	if err != nil {
		return nil, err
	}
	ended, err := timeFilter(in.form, endedOn)
	if err != nil {
		return nil, err
	}
	like := func(name, v string) bool { return in.form.Get(name) == "" || in.form.Get(name) == v }
	return listed[*phoneCall]{
		key: "calls", order: t.callOrder,
		visible: func(p *phoneCall) bool { return p.Account == in.account },
		keep: func(p *phoneCall) bool {
			return like("To", p.To) && like("From", p.From) && like("Status", p.Status) &&
				started(cmp.Or(p.Answered, p.Created)) && ended(p.Ended)
		},
		view: func(p *phoneCall) any { return p.view() },
	}.page(in, filters...)
}

// callView is the call resource; see https://www.twilio.com/docs/voice/api/call-resource#call-properties.
type callView struct {
	AccountSID      string            `json:"account_sid"`
	AnsweredBy      *string           `json:"answered_by"`
	APIVersion      string            `json:"api_version"`
	CallerName      *string           `json:"caller_name"`
	DateCreated     *string           `json:"date_created"`
	DateUpdated     *string           `json:"date_updated"`
	Direction       string            `json:"direction"`
	Duration        *string           `json:"duration"`
	EndTime         *string           `json:"end_time"`
	ForwardedFrom   *string           `json:"forwarded_from"`
	From            string            `json:"from"`
	FromFormatted   string            `json:"from_formatted"`
	GroupSID        *string           `json:"group_sid"`
	ParentCallSID   *string           `json:"parent_call_sid"`
	PhoneNumberSID  *string           `json:"phone_number_sid"`
	Price           *string           `json:"price"`
	PriceUnit       string            `json:"price_unit"`
	QueueTime       string            `json:"queue_time"`
	SID             string            `json:"sid"`
	StartTime       *string           `json:"start_time"`
	Status          string            `json:"status"`
	SubresourceURIs map[string]string `json:"subresource_uris"`
	To              string            `json:"to"`
	ToFormatted     string            `json:"to_formatted"`
	TrunkSID        *string           `json:"trunk_sid"`
	URI             string            `json:"uri"`
}

// view is the call as Twilio shows it.
func (p *phoneCall) view() callView {
	path := twilioPath + "Accounts/" + p.Account + "/Calls/" + p.SID
	v := callView{
		AccountSID: p.Account, APIVersion: twilioVersion, DateCreated: rfc2822(p.Created), DateUpdated: rfc2822(p.Updated),
		Direction: p.Direction, EndTime: rfc2822(p.Ended), From: p.From, FromFormatted: friendly(p.From), PriceUnit: "USD",
		QueueTime: "0", SID: p.SID, StartTime: rfc2822(p.Answered), Status: p.Status, To: p.To, ToFormatted: friendly(p.To),
		SubresourceURIs: map[string]string{"recordings": path + "/Recordings.json"}, URI: path + ".json",
	}
	if p.NumberSID != "" {
		v.PhoneNumberSID = &p.NumberSID
	}
	if p.over() {
		v.Duration = new(strconv.FormatInt(p.seconds(), 10))
	}
	if p.Priced {
		v.Price = new(p.priceText())
	}
	return v
}
