package sandbox

import (
	"cmp"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	twilioPath = "/" + twilioVersion + "/"
	// bodyLimit is the longest text, in characters.
	bodyLimit = 1600
	// validityMax is the longest ValidityPeriod, in seconds.
	validityMax = 36000
)

// Matches of faults, whatever the account.
const (
	accountsPath = "/" + twilioVersion + "/Accounts"

	// MakeMessage is for requests that make a message.
	MakeMessage = "POST " + accountsPath + "/*/Messages.json"
	// MakeAccount is for requests that make a subaccount, ChangeAccount for those that suspend or close one.
	MakeAccount   = "POST " + accountsPath + ".json"
	ChangeAccount = "POST " + accountsPath + "/*"
	// SearchNumbers is for searches of numbers that can be bought, of every kind and country.
	SearchNumbers = "GET " + accountsPath + "/*/AvailablePhoneNumbers/*/*"
	// BuyNumber, ListNumbers, ChangeNumber and ReleaseNumber are for an account's own numbers.
	BuyNumber     = "POST " + accountsPath + "/*/IncomingPhoneNumbers.json"
	ListNumbers   = "GET " + accountsPath + "/*/IncomingPhoneNumbers.json"
	ChangeNumber  = "POST " + accountsPath + "/*/IncomingPhoneNumbers/*"
	ReleaseNumber = "DELETE " + accountsPath + "/*/IncomingPhoneNumbers/*"
	// MakeCall is for requests that make a call, EndCall for those that end one.
	MakeCall = "POST " + accountsPath + "/*/Calls.json"
	EndCall  = "POST " + accountsPath + "/*/Calls/*"
	// VerifyCaller is for requests that have a number of somebody's own verified.
	VerifyCaller = "POST " + accountsPath + "/*/OutgoingCallerIds.json"
)

// twilioFaults are what faults do here. All of them are the sandbox's own doing and none is recorded, since there are
// no idempotency keys.
var twilioFaults = faultWords{
	edge:      []string{FaultTimeout, Fault429, Fault503, Fault500, FaultRefuse},
	execution: []string{Fault500AfterActing, FaultTimeoutAfterActing, FaultCutAfterActing, FaultDelay},
	delivery:  everyDelivery,
}

// asked is an API request that has been read and admitted.
type asked struct {
	caller  *twilioAccount
	account string
	country string
	path    string
	sid     string // of the resource, without the .json of its path
	form    url.Values
}

// twilioOperation answers an API request. It runs under the mutex and leaves the state alone when it errs.
type twilioOperation func(t *Twilio, c *changes, in *asked) (any, error)

// twilioRoute is one operation of the API.
type twilioRoute struct {
	method, path string
	op           twilioOperation
	// status is what it answers with when it worked; zero is 200.
	status int
	// counts is what it makes, where that is counted.
	counts string
}

// What is counted of the requests that make something.
const (
	countMessages = "messages"
	countAccounts = "accounts"
	countNumbers  = "numbers"
	countCalls    = "calls"
)

const (
	ofAccount   = accountsPath + "/{account}/"
	bundlesPath = "/v2/RegulatoryCompliance/Bundles"
)

var twilioRoutes = []twilioRoute{
	{"GET", accountsPath + ".json", listAccounts, 0, ""},
	{"POST", accountsPath + ".json", makeAccount, http.StatusCreated, countAccounts},
	{"GET", accountsPath + "/{resource}", fetchAccount, 0, ""},
	{"POST", accountsPath + "/{resource}", updateAccount, 0, ""},

	{"GET", ofAccount + "Balance.json", fetchBalance, 0, ""},

	{"GET", ofAccount + "Messages.json", listTexts, 0, ""},
	{"POST", ofAccount + "Messages.json", makeMessage, http.StatusCreated, countMessages},
	{"GET", ofAccount + "Messages/{resource}", fetchMessage, 0, ""},

	{"GET", ofAccount + "AvailablePhoneNumbers/{country}/{resource}", searchNumbers, 0, ""},
	{"GET", ofAccount + "IncomingPhoneNumbers.json", listNumbers, 0, ""},
	{"POST", ofAccount + "IncomingPhoneNumbers.json", buyNumber, http.StatusCreated, countNumbers},
	{"GET", ofAccount + "IncomingPhoneNumbers/{resource}", fetchNumber, 0, ""},
	{"POST", ofAccount + "IncomingPhoneNumbers/{resource}", updateNumber, 0, ""},
	{"DELETE", ofAccount + "IncomingPhoneNumbers/{resource}", releaseNumber, http.StatusNoContent, ""},

	{"GET", ofAccount + "Calls.json", listCalls, 0, ""},
	{"POST", ofAccount + "Calls.json", makeCall, http.StatusCreated, countCalls},
	{"GET", ofAccount + "Calls/{resource}", fetchCall, 0, ""},
	{"POST", ofAccount + "Calls/{resource}", updateCall, 0, ""},

	{"GET", ofAccount + "OutgoingCallerIds.json", listCallers, 0, ""},
	{"POST", ofAccount + "OutgoingCallerIds.json", requestCallerID, http.StatusCreated, ""},
	{"GET", ofAccount + "OutgoingCallerIds/{resource}", fetchCaller, 0, ""},
	{"POST", ofAccount + "OutgoingCallerIds/{resource}", updateCaller, 0, ""},
	{"DELETE", ofAccount + "OutgoingCallerIds/{resource}", deleteCaller, http.StatusNoContent, ""},

	{"GET", ofAccount + "Addresses.json", listAddresses, 0, ""},
	{"POST", ofAccount + "Addresses.json", makeAddress, http.StatusCreated, ""},
	{"GET", ofAccount + "Addresses/{resource}", fetchAddress, 0, ""},
	{"DELETE", ofAccount + "Addresses/{resource}", deleteAddress, http.StatusNoContent, ""},

	// Of another host at Twilio; a client's transport sends both here.
	{"POST", bundlesPath, makeBundle, http.StatusCreated, ""},
	{"GET", bundlesPath + "/{bundle}", fetchBundle, 0, ""},
	{"POST", bundlesPath + "/{bundle}", updateBundle, 0, ""},
}

func (t *Twilio) mountAPI(mux *http.ServeMux) {
	paths := map[string]bool{}
	for _, route := range twilioRoutes {
		mux.HandleFunc(route.method+" "+route.path, func(w http.ResponseWriter, r *http.Request) { t.serveAPI(w, r, route) })
		paths[route.path] = true
	}
	unknown := func(_ *Twilio, _ *changes, in *asked) (any, error) { return nil, notFound(in.path) }
	mux.HandleFunc(twilioPath, func(w http.ResponseWriter, r *http.Request) { t.serveAPI(w, r, twilioRoute{op: unknown}) })
	for path := range paths {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			t.serveAPI(w, r, twilioRoute{op: func(*Twilio, *changes, *asked) (any, error) {
				return nil, twilioFail(codeMethod, "Method not allowed: the sandbox does not imitate %s here", r.Method)
			}})
		})
	}
}

func (t *Twilio) serveAPI(w http.ResponseWriter, r *http.Request, route twilioRoute) {
	w.Header().Set("Twilio-Request-Id", newSID("RQ"))
	caller, err := t.admit(r)
	if err != nil {
		t.fail(w, err)
		return
	}
	in, err := readAsked(r)
	if err != nil {
		t.fail(w, err)
		return
	}
	in.caller = caller
	what := r.Method + " " + r.URL.Path
	if route.counts != "" {
		t.count(route.counts)
	}
	fault := t.faults.strike(what, twilioFaults.edge)
	if fault.Do == FaultTimeout {
		silence(t.life, w, r, fault)
		return
	}
	if e := twilioRefusal(fault, in.form.Get("From"), in.form.Get("To")); e != nil {
		t.fail(w, e)
		return
	}
	fault = t.faults.strike(what, twilioFaults.execution)
	if fault.Do == FaultDelay {
		// The caller may give up meanwhile; like Twilio, the sandbox acts all the same.
		sleep(t.life, fault.wait())
	}
	var v any
	err = t.change(func(c *changes) (err error) {
		v, err = route.op(t, c, in)
		return err
	})
	switch {
	case fault.Do == FaultTimeoutAfterActing || fault.Do == FaultCutAfterActing:
		silence(t.life, w, r, fault)
	case err != nil:
		t.fail(w, err)
	case fault.Do == Fault500AfterActing:
		t.fail(w, twilioFail(codeInternal, "An internal server error has occurred"))
	case route.status == http.StatusNoContent:
		w.WriteHeader(http.StatusNoContent)
	default:
		writeJSON(w, cmp.Or(route.status, http.StatusOK), v)
	}
}

func (t *Twilio) fail(w http.ResponseWriter, err error) {
	var e *twilioError
	if !errors.As(err, &e) {
		t.log.ErrorContext(t.life, "sandbox twilio: request failed", "error", err)
		e = twilioFail(codeInternal, "The sandbox failed: %s", err)
	}
	switch e.Status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Basic realm="Twilio API"`)
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, e.Status, e)
}

// count counts a request that asks for something, and has that written without waiting.
func (t *Twilio) count(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.begin()
	t.creation(what).Asked++
	c.put(bucketCreations, what, t.creation(what))
	c.finish()
}

// made counts that something was made.
func (t *Twilio) made(c *changes, what string) {
	t.creation(what).Made++
	c.put(bucketCreations, what, t.creation(what))
}

func (t *Twilio) creation(what string) *Creations {
	if t.creations[what] == nil {
		t.creations[what] = &Creations{}
	}
	return t.creations[what]
}

func readAsked(r *http.Request) (*asked, error) {
	in := &asked{account: r.PathValue("account"), country: r.PathValue("country"), path: r.URL.Path, sid: r.PathValue("bundle")}
	if name := r.PathValue("resource"); name != "" {
		sid, ok := strings.CutSuffix(name, ".json")
		if !ok {
			return nil, notFound(in.path)
		}
		in.sid = sid
	}
	raw := r.URL.RawQuery
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, twilioFail(codeInvalidParameter, "The request body could not be read.")
		}
		if ct := r.Header.Get("Content-Type"); len(body) > 0 && !strings.HasPrefix(ct, "application/x-www-form-urlencoded") {
			return nil, twilioFail(codeInvalidParameter, "The body must be application/x-www-form-urlencoded, not %q.", ct)
		}
		raw = string(body)
	}
	form, err := url.ParseQuery(raw)
	if err != nil {
		return nil, twilioFail(codeInvalidParameter, "The parameters could not be read: %s", err)
	}
	in.form = form
	return in, nil
}

// allow refuses every parameter that is not known, and those given twice.
func (in *asked) allow(known ...string) error {
	for _, name := range slices.Sorted(maps.Keys(in.form)) {
		if !slices.Contains(known, name) {
			return twilioFail(codeUnknownParameter,
				"Unknown parameter: %s (the sandbox takes only the parameters that it acts on)", name)
		}
		if len(in.form[name]) > 1 && name != "StatusCallbackEvent" {
			return twilioFail(codeInvalidParameter, "Parameter %s is given twice.", name)
		}
	}
	return nil
}

// integer gives a whole number within bounds; or is for when it was not sent.
func (in *asked) integer(name string, least, most, or int) (int, error) {
	raw := in.form.Get(name)
	if raw == "" {
		return or, nil
	}
	n, err := strconv.Atoi(raw)
	if err != nil || n < least || n > most {
		return 0, twilioFail(codeInvalidParameter, "Invalid %s: %s", name, raw)
	}
	return n, nil
}

// makeMessage is https://www.twilio.com/docs/messaging/api/message-resource#create-a-message.
func makeMessage(t *Twilio, c *changes, in *asked) (any, error) {
	if err := in.allow("To", "From", "Body", "StatusCallback", "ValidityPeriod"); err != nil {
		return nil, err
	}
	from, to, body := in.form.Get("From"), in.form.Get("To"), in.form.Get("Body")
	if err := t.sendable(in.account, from, to, body); err != nil {
		return nil, err
	}
	validity, err := in.integer("ValidityPeriod", 1, validityMax, 0)
	if err != nil {
		return nil, err
	}
	m := &sms{
		Account: in.account, Direction: directionAPI, From: from, To: to, Body: body, Status: smsQueued,
		StatusCallback: in.form.Get("StatusCallback"),
	}
	if m.StatusCallback != "" && !callbackURL(m.StatusCallback) {
		return nil, twilioFail(codeInvalidCallback, "The 'StatusCallback' URL %s is not a valid URL", m.StatusCallback)
	}
	if validity != 0 {
		m.Expires = c.now.Add(time.Duration(validity) * time.Second).UnixNano()
	}
	t.add(c, m)
	t.made(c, countMessages)
	return m.view(), nil
}

// sendable says why a message cannot be made, if it cannot.
func (t *Twilio) sendable(account, from, to, body string) error {
	switch {
	case to == "":
		return twilioFail(codeNoTo, "A 'To' phone number is required.")
	case from == "":
		return twilioFail(codeNoFrom, "A 'From' phone number is required.")
	case strings.TrimSpace(body) == "":
		return twilioFail(codeNoBody, "Message body is required.")
	case tooLong(body):
		return twilioFail(codeTooLong, "The concatenated message body exceeds the %d character limit", bodyLimit)
	case magicTo[to] != 0:
		return sendError(magicTo[to], from, to)
	case !e164.MatchString(to):
		return sendError(codeInvalidTo, from, to)
	case magicFrom[from] != 0:
		return sendError(magicFrom[from], from, to)
	case !e164.MatchString(from):
		return sendError(codeInvalidFrom, from, to)
	case t.owned[from] == nil || t.owned[from].Account != account:
		return sendError(codeNotTwilio, from, to)
	case !t.owned[from].SMS:
		return sendError(codeNotCapable, from, to)
	case from == to:
		return sendError(codeSameNumber, from, to)
	case t.optOuts[optOutKey(account, from, to)] != nil:
		return sendError(codeOptedOut, from, to)
	default:
		return nil
	}
}

func tooLong(body string) bool { return utf8.RuneCountInString(body) > bodyLimit }

// find gives an account's message; nil when it has none of this SID.
func (t *Twilio) find(account, sid string) *sms {
	if m := t.messages[sid]; m != nil && m.Account == account {
		return m
	}
	return nil
}

// fetchMessage is https://www.twilio.com/docs/messaging/api/message-resource#fetch-a-message-resource.
func fetchMessage(t *Twilio, _ *changes, in *asked) (any, error) {
	m := t.find(in.account, in.sid)
	if m == nil {
		return nil, notFound(in.path)
	}
	if err := in.allow(); err != nil {
		return nil, err
	}
	return m.view(), nil
}
